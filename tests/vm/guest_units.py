"""Units of the systemd that booted this guest: what checks ask of them."""

import json
import mmap
import resource
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

MIB = 1 << 20
HELD = 44 * MIB  # of 64 MiB: with Python's own above the high watermark of 60 %
CGROUPS = "/sys/fs/cgroup/system.slice"
UNIT = "pressured.service"


def hold(*cgroups: str) -> None:
    """Hold memory; at each SIGUSR1 print its digest, which touches all of it.

    Behind the digest are the major faults since the line before.

    Args:
        cgroups: To join before.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    for cgroup in cgroups:
        Path(cgroup, "cgroup.procs").write_text("0")
    memory = mmap.mmap(-1, HELD, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)  # khugepaged would read pages back in
    for offset in range(0, HELD, 4096):
        memory[offset : offset + 64] = offset.to_bytes(8, "little") * 8
    before = 0
    while True:
        found = sha256(memory).hexdigest()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        print(found, after - before, flush=True)
        before = after
        signal.sigwait({signal.SIGUSR1})


def run(*command: str) -> str:
    """Run a command and return its output; what it writes to stderr is an error."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), (command, done)
    return done.stdout


def wait(what: Callable[[], T], seconds: float = 120) -> T:
    """Return the first true answer to a question."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return answer


def show(name: str, unit: str = UNIT) -> str:
    """Return a property of a unit."""
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


def status(unit: str) -> dict[str, str]:
    """Return /proc/PID/status of a unit's main process."""
    text = Path("/proc", show("MainPID", unit), "status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def swapped(unit: str) -> int:
    """Return the bytes that a unit's main process has in swap."""
    return int(status(unit)["VmSwap"].split()[0]) * 1024


def held(unit: str, number: int) -> list[str]:
    """Return what hold() prints first, or later: the digest, and the faults."""
    output = Path(f"/run/{unit}.out")
    return wait(lambda: output.read_text().split("\n")[number:-1])[0].split()


def digest(unit: str, number: int) -> str:
    """Return the digest that hold() prints first, or later."""
    return held(unit, number)[0]


def metrics(port: int = 9779) -> dict[str, float]:
    """Scrape a daemon."""
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as page:
        lines = page.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def journal(unit: str = UNIT) -> list[dict[str, Any]]:
    """Return the lines of a daemon, each of which must be a JSON object."""
    fields = (f"_SYSTEMD_UNIT={unit}", "_TRANSPORT=stdout")
    lines = run("journalctl", "-q", "-o", "cat", *fields).splitlines()
    return [json.loads(line) for line in lines]
