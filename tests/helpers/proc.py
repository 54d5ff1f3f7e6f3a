"""Files of /proc, read independently of the package."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

import pytest

_CPUCLOCK_SCHED = 2
_SMAPS_HEADER = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ")

_SESSION = 3
LAST_CPU = 36
"""Index of the field `processor` in stat()."""


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name, the state first."""
    text = Path(f"/proc/{pid}/stat").read_bytes()
    return text.rpartition(b")")[2].decode("ascii").split()


def cpu_ticks(pid: int) -> int:
    """Return user plus system time of a process, in clock ticks."""
    utime, stime = stat(pid)[11:13]
    return int(utime) + int(stime)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, to the nanosecond. Wraps clock_gettime(2).

    The number of the clock is that of clock_getcpuclockid(3).
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def status(pid: int, name: str) -> int:
    """Return a number of /proc/PID/status, kB in bytes."""
    for line in Path(f"/proc/{pid}/status").read_bytes().split(b"\n"):
        key, _, value = line.partition(b":")
        if key == name.encode():
            number, *unit = value.split()
            return int(number) * (1024 if unit == [b"kB"] else 1)
    raise KeyError(name)


def smaps(pid: int, address: int, name: str) -> int:
    """Return the bytes that smaps has under `name` for the VMA at `address`."""
    found, head = False, f"{name}:".encode()
    for line in Path(f"/proc/{pid}/smaps").read_bytes().split(b"\n"):
        if header := _SMAPS_HEADER.match(line):
            found = int(header[1], 16) <= address < int(header[2], 16)
        elif found and line.startswith(head):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def droppable(pid: int) -> int:
    """Return the bytes in memory that the kernel may drop at any time.

    glibc 2.41 has a page of them in each process (MAP_DROPPABLE of Linux 6.11), which
    mlockall(2) does not lock. A process without any has 0.
    """
    total = resident = 0
    for line in Path(f"/proc/{pid}/smaps").read_bytes().split(b"\n"):
        if line.startswith(b"Rss:"):
            resident = int(line.split()[1]) * 1024
        elif line.startswith(b"VmFlags:") and b"dp" in line.split():
            total += resident
    return total


def vmstat(name: str) -> int:
    """Return a counter of /proc/vmstat."""
    for line in Path("/proc/vmstat").read_text().split("\n"):
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise KeyError(name)


def session(leader: int) -> list[int]:
    """Return the processes of a session that was begun by `leader`, zombies too."""
    members = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it exits
            if int(stat(int(path.name))[_SESSION]) == leader:
                members.append(int(path.name))
    return sorted(members)


def kthreadd() -> int:
    """Return the ID of the parent of all kernel threads, or skip the test."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        if path.read_bytes() == b"kthreadd\n":
            return int(path.parent.name)
    pytest.skip("machine: this pid namespace has no kernel thread")


def open_files() -> list[str]:
    """Return the open file descriptors of this process."""
    return sorted(os.listdir("/proc/self/fd"))


def huge_page_size() -> int:
    """Return the bytes of a huge page that COLLAPSE makes, or skip the test."""
    path = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    if not path.exists():
        pytest.skip("kernel: it has no transparent huge pages")
    return int(path.read_text())
