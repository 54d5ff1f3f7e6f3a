"""What it takes to hold a process and let it go, by each method."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.children import Child
from benchmarks.harness import Benchmark, Plan, Plot, Row, timed
from pmadvise import Process
from pmadvise.hold import METHODS

HOLDS = 10
THREADS = 4


def threads(connection: Connection) -> None:
    """Live with threads that sleep, but for one that wakes up each millisecond."""
    for _ in range(THREADS - 1):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    connection.send("ready")
    while True:
        time.sleep(0.001)


def freezer_mount() -> Path | None:
    """Return where a hierarchy of cgroups that can freeze is mounted, writable."""
    for wanted in ("cgroup2", "freezer"):
        for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n")[:-1]:
            left, _, right = line.decode(errors="surrogateescape").partition(" - ")
            kind, _, options = right.split(" ", 2)
            mount = Path(left.split()[4])
            if wanted in (kind, *options.split(",")) and os.access(mount, os.W_OK):
                return mount
    return None


def own_cgroup(stack: ExitStack, pid: int) -> None:
    """Put a process into a cgroup of its own, where there is one that can freeze."""
    mount = freezer_mount()
    if mount is None:
        return
    cgroup = mount / f"pmadvise-bench-{os.getpid()}"
    cgroup.mkdir()
    stack.callback(cgroup.rmdir)
    home = mount / "cgroup.procs"
    stack.callback(home.write_text, str(pid))
    (cgroup / "cgroup.procs").write_text(str(pid))


def hold(process: Process, method: str) -> None:
    """Hold a process for nothing."""
    with process.hold(method, timeout=30):
        pass


def set_up(stack: ExitStack) -> Plan:
    """Fork a child with threads, in a cgroup of its own."""
    child = Child(stack, threads)
    own_cgroup(stack, child.pid)
    process = stack.enter_context(Process(child.pid))
    methods, notes = [], [f"{THREADS} threads, one of which runs each millisecond"]
    for method in METHODS:
        try:
            hold(process, method)
        except PermissionError as error:
            notes.append(f"{method}: {error.strerror}")
        else:
            methods.append(method)
    return Plan(
        cases=[timed(one, partial(hold, process, one), HOLDS) for one in methods],
        rows=[Row(one, one, "µs", scale=1e6) for one in methods],
        rounds=60,
        plot=Plot(
            "",
            "µs to hold and let go",
            {f"{THREADS} threads": [(one, one) for one in methods]},
            scale=1e6,
            log=False,
        ),
        notes=notes,
    )


BENCHMARK = Benchmark("hold", "Hold and let go", set_up, 10, ("root",))
