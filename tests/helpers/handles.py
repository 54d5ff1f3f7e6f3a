"""The methods of a Process, by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers.targets import PAGE
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
"""Need an address space, and the right to it."""
OTHERS: dict[str, Callable[[Process], object]] = {
    "status": Process.status,
    "fileno": Process.fileno,
    "pidfd": lambda process: process.pidfd,
    "alive": lambda process: process.alive,
    "wait": lambda process: process.wait(0),
    "enter": Process.__enter__,
    "hold": Process.hold,
}
reads = pytest.mark.parametrize("read", READS.values(), ids=READS)
