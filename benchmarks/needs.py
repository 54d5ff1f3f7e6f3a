"""What a benchmark needs of the host: why, and how to get it."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import zram
from benchmarks.harness import Benchmark

MEMORY = 3 << 30
MAPPINGS = 60_000


def _root() -> str:
    if os.geteuid() == 0:
        return ""
    return (
        "root, for CAP_SYS_NICE, without which the kernel refuses advice to another "
        "process, and to turn swap on: run it with sudo"
    )


def _compiler() -> str:
    if shutil.which("cc") is None:
        return "a C compiler, for what is measured against: apt install gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers, for what is measured against: apt install python3-dev"
    return ""


def _zram() -> str:
    if why := zram.missing():
        return f"swap on zram, so that memory can be paged out at its speed: {why}"
    return ""


def _memory() -> str:
    for line in Path("/proc/meminfo").read_text().split("\n"):
        if line.startswith("MemAvailable:") and int(line.split()[1]) << 10 < MEMORY:
            return f"{MEMORY >> 30} GiB of memory that is available"
    return ""


def _mappings() -> str:
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > MAPPINGS + 1000:
        return ""
    return (
        f"a process of {MAPPINGS:,} mappings: sysctl vm.max_map_count={MAPPINGS + 5530}"
    )


NEEDS: dict[str, Callable[[], str]] = {
    "root": _root,
    "compiler": _compiler,
    "zram": _zram,
    "memory": _memory,
    "mappings": _mappings,
}
"""Key: a function that returns what is missing and why it is needed, or nothing."""


def missing(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Return what is missing, and which benchmarks need it, in a line each."""
    found = []
    for key, what in NEEDS.items():
        names = [one.name for one in benchmarks if key in one.needs]
        if names and (why := what()):
            found.append(f"{why} ({', '.join(names)})")
    return found
