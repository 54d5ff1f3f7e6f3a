"""Whole cgroups in a guest with systemd: parked, and relieved by memory.reclaim.

`held` and `lent` hold memory, as `idle` does.  `whole` is the unit of
docs/examples/pressured, with the drop-in that its README has for memory.reclaim, on
`lent`; `session` is a daemon without any right, in a cgroup that was delegated to its
user (systemd_guest.py, with the argument `session`).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guest_units import (
    CGROUPS,
    HELD,
    MIB,
    held,
    journal,
    metrics,
    run,
    show,
    status,
    wait,
)

PYTHON = "/opt/pressured/bin/python"
LIMIT = 64 * MIB
PORT = "--listen=127.0.0.1:9780"
MARKS = ("--high=60", "--low=40", "--swap-floor=0")
SESSION = f"{CGROUPS}/session.service"


def number(cgroup: str, file: str) -> int:
    """Return the number in a file of a cgroup."""
    return int(Path(cgroup, file).read_text())


def session() -> None:
    """Fill a cgroup below one's own, and be the daemon that relieves it."""
    own = Path(SESSION)
    for name in ("idle", "daemon"):
        (own / name).mkdir()
    (own / "daemon/cgroup.procs").write_text("0")
    (own / "cgroup.subtree_control").write_text("+memory")
    (own / "idle/memory.max").write_text(str(LIMIT))
    command = (sys.executable, sys.argv[0], "hold", f"{own}/idle")
    subprocess.Popen(command, stdout=subprocess.DEVNULL)
    place = (f"--cgroup={own}/idle", "--lock=/run/session/lock", PORT)
    os.execv(PYTHON, [PYTHON, "/opt/pressured/pressured.py", *place, *MARKS])


def begin() -> None:
    """Start all that is looked at, while the guest has nothing to do."""
    run("systemctl", "start", "--no-block", "held", "lent", "session")
    wait(lambda: show("ActiveState", "lent") == "active")
    run("systemctl", "start", "--no-block", "whole")


def parked() -> str:
    """A unit as docs/park.md has it: frozen and in swap, then as it was, no fault."""
    first, _ = held("held", 0)
    name = show("ControlGroup", "held")
    cgroup, park = f"/sys/fs/cgroup{name}", (PYTHON, "/opt/park/park.py")
    before = number(cgroup, "memory.current")
    run("systemctl", "freeze", "held")
    run(*park, "park", "--cgroup", name)
    assert show("FreezerState", "held") == "frozen"
    assert "frozen 1\n" in Path(cgroup, "cgroup.events").read_text()
    after = number(cgroup, "memory.current")
    assert before - after >= HELD, (before, after)
    in_swap = number(cgroup, "memory.swap.current")
    assert in_swap >= HELD, in_swap
    run(*park, "unpark", "--cgroup", name, "--no-thaw")
    run("systemctl", "thaw", "held")
    assert show("FreezerState", "held") == "running"
    back = number(cgroup, "memory.current")
    assert abs(back - before) <= before // 10, (before, back)
    os.kill(int(show("MainPID", "held")), signal.SIGUSR1)
    again, faults = held("held", 1)
    assert (again, faults) == (first, "0"), faults
    told = (size / MIB for size in (before, after, in_swap, back))
    return "{:.1f} -> {:.1f} MiB, {:.1f} in swap; back {:.1f}".format(*told)


def relieved(daemon: str, cgroup: str, port: int) -> str:
    """Require that a daemon reclaims from a cgroup as a whole, and tells how much."""

    def named(event: str) -> list[dict[str, Any]]:
        return [line for line in journal(f"{daemon}.service") if line["event"] == event]

    wait(lambda: named("recovered"))
    wholes = [whole for line in named("relieved") for whole in line["cgroups"]]
    assert {(whole["cgroup"], whole["members"]) for whole in wholes} == {(cgroup, 1)}
    assert not [one for line in named("relieved") for one in line["processes"]]
    freed = sum(whole["freed"] for whole in wholes)
    told = metrics(port)
    assert told["pressured_reclaimed_bytes_total"] == freed, told
    assert told['pressured_advised_bytes_total{advice="RECLAIM"}'] >= freed, told
    fall = number(cgroup, "memory.peak") - number(cgroup, "memory.current")
    assert abs(fall - freed) <= 4 * MIB, (fall, freed)  # peak: before it was at rest
    in_swap = number(cgroup, "memory.swap.current")
    return f"told {freed / MIB:.1f}, fell by {fall / MIB:.1f}, swap {in_swap / MIB:.1f}"


def whole() -> str:
    """The unit with its drop-in relieves a unit that is idle, by memory.reclaim."""
    return relieved("whole", f"{CGROUPS}/lent.service", 9781)


def delegated() -> str:
    """Without any right it relieves a cgroup that was delegated to its user."""
    told = relieved("session", f"{SESSION}/idle", 9780)
    events = [line["event"] for line in journal("session.service")]
    assert "no_pageout" in events, events
    seen = status("session")
    assert (seen["Uid"].split()[0], int(seen["CapEff"], 16)) == ("1000", 0)
    return told


CHECKS: tuple[Callable[[], str], ...] = (parked, whole, delegated)
