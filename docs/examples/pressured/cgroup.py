"""The memory of a cgroup: how full it is, what of it is protected, who is in it."""

from __future__ import annotations

import errno
import math
import os
from contextlib import suppress
from pathlib import Path

from policy import Candidate

from pmadvise import Process, Status, processes, swap

# Bytes in use, then limits: cgroup-v2.rst and cgroup-v1/memory.rst of the kernel
V2 = ("memory.current", "memory.max", "memory.high")
V1 = ("memory.usage_in_bytes", "memory.limit_in_bytes")
PROTECTED = ("memory.min", "memory.low")


def number(path: str) -> float | None:
    """Return the number in a file of a cgroup; None without such a file."""
    try:
        text = Path(path).read_text("ascii").strip()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # ENODEV: removed once open
            return None
        raise
    return math.inf if text == "max" else int(text)


def host() -> tuple[float, float]:
    """Return the bytes in use that are not available, and all, of the host."""
    with open("/proc/meminfo", encoding="ascii") as file:
        kib = {
            name: int(rest.split()[0]) for name, rest in (x.split(":") for x in file)
        }
    return (kib["MemTotal"] - kib["MemAvailable"]) * 1024, kib["MemTotal"] * 1024


class Cgroup:
    """A cgroup with those below it, and what was seen of their processes."""

    def __init__(self, directory: str) -> None:
        self.directory = directory.rstrip("/")
        self.known: dict[int, Candidate] = {}
        """The processes, by ID."""
        self.later = 0.0
        """When to try again, as nothing could be done."""
        self.failed = ""
        """What went wrong at the last look."""
        self._members: dict[int, str] = {}
        self._names = V1 if os.path.exists(f"{self.directory}/{V1[0]}") else V2
        self._all = host()[1]
        self.fill()

    def fill(self) -> tuple[float, float]:
        """Return the bytes in use and the limit; the host's, if it has no lower one.

        Raises:
            FileNotFoundError: There is no such cgroup, or not any more.
        """
        used, *limits = (number(f"{self.directory}/{name}") for name in self._names)
        if used is None and not os.path.exists(f"{self.directory}/cgroup.procs"):
            raise FileNotFoundError(f"{self.directory}: not the directory of a cgroup")
        limit = min((n for n in limits if n is not None), default=math.inf)
        return host() if used is None or limit >= self._all else (used, limit)

    def swap_cache(self) -> int:
        """Return the bytes in the swap cache, which are the first to be reclaimed.

        PAGEOUT leaves memory there that goes to a disk; with zram it leaves nothing.
        """
        with suppress(OSError):  # /proc hides the swap
            if swap().frees_at_once:
                return 0
        if not os.path.exists(f"{self.directory}/memory.stat"):
            return 0
        with open(f"{self.directory}/memory.stat", "rb") as file:
            lines = dict(line.split() for line in file)
        return int(lines.get(b"swapcached", 0))

    def refresh(self, now: float) -> None:
        """Open the processes that are new, and close those that have gone."""
        found = members(self.directory)
        for pid, one in list(self.known.items()):
            if pid not in found or one.gone:
                self.known.pop(pid).process.close()
                self._members.pop(pid, None)
        if found.keys() - self._members.keys():
            for process in processes(cgroup=self.directory):
                seen = process.pid in self.known or process.pid == os.getpid()
                status = None if seen else _status(process)
                if status is None:
                    process.close()
                else:
                    self.known[process.pid] = Candidate(process, "", status, now)
        self._members = found
        for pid, one in self.known.items():
            one.cgroup = found.get(pid, one.cgroup)


def _status(process: Process) -> Status | None:
    try:
        return process.status()
    except ProcessLookupError:
        return None


def members(root: str) -> dict[int, str]:
    """Return the directory of each process of a cgroup, by its ID."""
    found: dict[int, str] = {}
    directories = [root]  # not os.walk(), whose recursion the cgroups' owner controls
    while directories:
        directory = directories.pop()
        with suppress(OSError):  # removed meanwhile, or threaded
            text = Path(directory, "cgroup.procs").read_text("ascii")
            found.update(dict.fromkeys(map(int, text.split()), directory))
        with (
            suppress(OSError),
            os.scandir(directory) as entries,
        ):  # or its path too long
            below = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
            directories += below
    return found


def swapped_in() -> int:
    """Return how many pages the host has read from swap since its boot."""
    with open("/proc/vmstat", "rb") as file:
        return int(file.read().split(b"\npswpin ")[1].split(b"\n")[0])


def unprotected(directory: str) -> float:
    """Return the bytes that may leave a cgroup: PAGEOUT itself ignores memory.min."""
    least = math.inf
    while os.path.exists(f"{directory}/cgroup.procs"):
        kept = max(number(f"{directory}/{name}") or 0 for name in PROTECTED)
        used = number(f"{directory}/memory.current")
        if kept and used is not None:
            least = min(least, used - kept)
        directory = os.path.dirname(directory)
    return least
