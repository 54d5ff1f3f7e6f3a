"""What can be asked of a Process, and of a target, by name."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from helpers.targets import PAGE, Target

from pmadvise import Advice, Process

READS: dict[str, Callable[[Process], object]] = {
    "maps": Process.maps,
    "resident": Process.resident,
    "swapped": Process.swapped,
    "memory": Process.memory,
    "check": lambda process: process.check(Advice.COLD),
    "cold": Process.cold,
    "pageout": Process.pageout,
    "willneed": Process.willneed,
    "collapse": Process.collapse,
    "advise": lambda process: process.advise([(PAGE, PAGE)], Advice.COLD),
}
OTHERS: dict[str, Callable[[Process], object]] = {
    "fileno": Process.fileno,
    "pidfd": lambda process: process.pidfd,
    "alive": lambda process: process.alive,
    "wait": lambda process: process.wait(0),
    "enter": Process.__enter__,
    "hold": Process.hold,
}
reads = pytest.mark.parametrize("read", READS.values(), ids=READS)


def send(target: Target, code: str) -> None:
    """Have the target run what it never answers."""
    assert target.process.stdin is not None
    target.process.stdin.write(repr(code) + "\n")
    target.process.stdin.flush()


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def thread_of(target: Target) -> int:
    """Have the target start a thread; return its ID."""
    target.run("threading.Thread(target=time.sleep, args=(99,), daemon=True).start()")
    tids = target.run("[int(tid) for tid in os.listdir('/proc/self/task')]")
    return max(int(tid) for tid in tids if tid != target.pid)
