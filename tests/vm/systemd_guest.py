"""Prove the unit of docs/examples/pressured under the systemd that booted this guest.

systemd.py has it run as root.  `pressured` is as it is shipped; `idle`, `kept` and
`dear` hold memory as another user (this program, with the argument `hold`).
"""

import os
import re
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import cgroups_guest
import tasks_guest
from guest_units import (
    CGROUPS,
    MIB,
    UNIT,
    digest,
    hold,
    journal,
    metrics,
    run,
    show,
    status,
    swapped,
    wait,
)

MOVED = 10 * MIB  # at least, towards the low one of 40 %
FILE = f"/etc/systemd/system/{UNIT}"
EXPOSURE = 2.5
HOLDERS = ("idle", "kept", "dear")
CAPABILITIES = (2, 19, 23)  # DAC_READ_SEARCH, SYS_PTRACE, SYS_NICE


def verify() -> str:
    """The unit passes without a remark, and its exposure is low."""
    assert run("systemd-analyze", "verify", FILE) == ""
    report = run("systemd-analyze", "security", "--offline=true", "--no-pager", FILE)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found, report
    assert float(found[1]) <= EXPOSURE, report
    return f"{run('systemctl', '--version').splitlines()[0]}, exposure {found[1]}"


def active() -> str:
    """READY=1 makes the unit active: `systemctl start` waits for it."""
    for unit in HOLDERS:
        run("systemctl", "start", unit)
        digest(unit, 0)
        assert swapped(unit) == 0, unit
    start = time.monotonic()
    run("systemctl", "start", UNIT)
    assert (show("ActiveState"), show("Type")) == ("active", "notify")
    return f"after {time.monotonic() - start:.1f} s"


def confined() -> str:
    """It is a user of its own, with the capabilities of the unit and no other."""
    mask = f"{sum(1 << number for number in CAPABILITIES):016x}"
    seen = status(UNIT)
    for kind in "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
        assert seen[kind] == mask, (kind, seen[kind], mask)
    user = int(seen["Uid"].split()[0])
    assert 61184 <= user <= 65519, user
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
    process = Path("/proc", show("MainPID"))
    assert process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[16] == "-5"
    return f"user {user}, capabilities {mask}"


def pages_out() -> str:
    """The memory of another user's idle process goes to swap, and by us alone."""
    wait(lambda: swapped("idle") >= MOVED)
    events = Path(CGROUPS, "idle.service/memory.events").read_text()
    assert "\nmax 0\n" in events, events
    return f"VmSwap {swapped('idle') >> 20} MiB of uid {status('idle')['Uid'][:4]}"


def tries(unit: str) -> float:
    """Return how often nobody of a unit's cgroup, or too little, was paged out."""
    labels = f'cgroup="{CGROUPS}/{unit}.service",ended="short",trigger="watermark"'
    return metrics().get(f"pressured_acts_total{{{labels}}}", 0)


def reasons(unit: str) -> dict[str, int]:
    """Return why nobody of a unit's cgroup was paged out, as the log has it."""
    lines = [line for line in journal() if line["event"] == "nobody"]
    found = [line for line in lines if line["cgroup"] == f"{CGROUPS}/{unit}.service"]
    told: dict[str, int] = found[-1]["reasons"] if found else {}
    return told


def spares() -> str:
    """Who is dear to the OOM killer stays, although its cgroup is as full."""
    wait(lambda: tries("dear") >= 3)
    assert reasons("dear") == {"oom_score_adj": 1}
    assert swapped("dear") == 0
    return f"after {tries('dear'):.0f} tries"


def honours() -> str:
    """What memory.low protects stays, although its cgroup is as full."""
    full = f'pressured_watermark_ratio{{cgroup="{CGROUPS}/kept.service"}}'
    wait(lambda: tries("kept") >= 3)
    assert reasons("kept") == {"protected": 1}
    ratio = metrics()[full]
    assert (ratio > 0.6, swapped("kept")) == (True, 0), ratio
    run("systemctl", "set-property", "--runtime", "kept.service", "MemoryLow=0")
    wait(lambda: swapped("kept") >= MOVED)
    return f"{ratio:.0%} full; without memory.low {swapped('kept') >> 20} MiB swapped"


def scraped() -> str:
    """The metrics agree with what the kernel shows."""
    names = (
        'pressured_advised_bytes_total{advice="PAGEOUT"}',
        "pressured_freed_bytes_total",
    )
    wait(lambda: min(metrics().get(name, 0) for name in names) >= 2 * MOVED)
    full = f'pressured_watermark_ratio{{cgroup="{CGROUPS}/idle.service"}}'
    wait(lambda: metrics()[full] < 0.6)
    wait(lambda: metrics()["pressured_processes"] == len(HOLDERS))
    seen = metrics()
    assert not [name for name in seen if name.startswith("pressured_refusals_total{")]
    events = [line["event"] for line in journal()]
    assert "no_pressure" not in events, "no PSI trigger"
    advised, freed = (seen[name] / MIB for name in names)
    return f"advised {advised:.0f} MiB, freed {freed:.0f} MiB"


def intact() -> str:
    """Who wakes finds its memory as it was, and is seen to wake."""
    for unit in "idle", "kept":
        # No longer full: nothing is paged out while it comes back.
        run("systemctl", "set-property", "--runtime", unit, "MemoryMax=512M")
        os.kill(int(show("MainPID", unit)), signal.SIGUSR1)
        assert digest(unit, 1) == digest(unit, 0), unit
    pids = {int(show("MainPID", unit)) for unit in ("idle", "kept")}
    wait(lambda: pids <= {line.get("pid") for line in journal() if "back" in line})
    back = metrics()["pressured_refaulted_bytes_total"]
    assert back >= 2 * MIB, back
    return f"{back / MIB:.1f} MiB seen to come back"


def watched() -> str:
    """The watchdog is kept quiet, and a daemon that hangs is killed and replaced."""
    cgroups_guest.begin()  # most of this is waiting
    seconds = int(show("WatchdogUSec").removesuffix("s"))
    since = int(show("ActiveEnterTimestampMonotonic")) / 1e6
    wait(lambda: time.monotonic() > since + seconds + 3, seconds + 5)
    assert (show("ActiveState"), show("NRestarts")) == ("active", "0")
    alive = time.monotonic() - since
    pid = show("MainPID")
    os.kill(int(pid), signal.SIGSTOP)
    wait(lambda: show("NRestarts") == "1", seconds + 120)
    wait(lambda: show("ActiveState") == "active")
    assert show("MainPID") != pid
    return f"alive {alive:.0f} s with WatchdogSec={seconds}, restarted once it hung"


def reloads() -> str:
    """SIGHUP is no end: the options are read again."""
    pid = show("MainPID")
    run("systemctl", "reload", UNIT)
    wait(lambda: "reloaded" in [line["event"] for line in journal()])
    assert (show("MainPID"), show("ActiveState")) == (pid, "active")
    return "active, the same process"


def stops() -> str:
    """SIGTERM ends it with success."""
    run("systemctl", "stop", UNIT)
    ended = [show(name) for name in ("ActiveState", "Result", "ExecMainStatus")]
    assert ended == ["inactive", "success", "0"], ended
    return "inactive, success, status 0"


def logs() -> str:
    """The journal has a line of JSON for each event."""
    events = [str(line["event"]) for line in journal()]
    assert {"ready", "relieved", "woke", "stopped"} <= set(events), events
    assert events[-1] == "stopped"
    return f"{len(events)} lines: {', '.join(sorted(set(events)))}"


def fails() -> str:
    """Wrong options are not tried again, and what is missing not for ever."""
    path = Path("/etc/default/pressured")
    found = {}
    for options in "--high 0", "--cgroup /sys/fs/cgroup/none":
        path.write_text(f'PRESSURED_OPTIONS="{options}"\n')
        run("systemctl", "start", "--no-block", UNIT)
        wait(lambda: show("ActiveState") == "failed", 300)
        found[int(show("ExecMainStatus"))] = int(show("NRestarts"))
        run("systemctl", "reset-failed", UNIT)
    assert found[2] == 0, found
    assert 1 <= found[1] <= 3, found
    return f"status 2, no restart; status 1, {found[1]} restarts"


CHECKS = (
    verify,
    active,
    confined,
    pages_out,
    spares,
    honours,
    scraped,
    intact,
    watched,
    reloads,
    stops,
    logs,
    fails,
    *cgroups_guest.CHECKS,
    *tasks_guest.CHECKS,
)


def uptime() -> float:
    """Return the seconds since the guest booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main() -> int:
    """Run the checks, a line for each; each needs what the one before it left."""
    passed = 0
    for check in CHECKS:
        try:
            print(f"ok {check.__name__} - {check()} ({uptime():.0f} s)", flush=True)
            passed += 1
        except Exception:
            print(f"FAIL {check.__name__} - {traceback.format_exc()}", flush=True)
            break
    failed = len(CHECKS) - passed
    if failed:
        for command in (
            ("systemctl", "status", "--no-pager", "-l", UNIT, "idle", "kept"),
            ("journalctl", "-q", "-n", "80", "--no-pager"),
        ):
            subprocess.run(command, check=False, timeout=60)
    print(f"{passed} passed, {failed} failed, 0 skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["hold"]:
        hold(*sys.argv[2:])
    if sys.argv[1:] == ["session"]:
        cgroups_guest.session()
    ended = main()
    print(f"cell: exit {ended}", flush=True)
