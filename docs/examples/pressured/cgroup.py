"""The memory of a cgroup: how full it is, and what of it is protected."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from members import GONE, Members
from telemetry import Teller

from pmadvise import swap

# Bytes in use, then limits: cgroup-v2.rst and cgroup-v1/memory.rst of the kernel
V2 = ("memory.current", "memory.max", "memory.high")
V1 = ("memory.usage_in_bytes", "memory.limit_in_bytes")
PROTECTED = ("memory.min", "memory.low")
STALLED = 0.01  # of the time: the cgroup itself is short of memory


class Fill(NamedTuple):
    """The memory that is the scarcest for a cgroup."""

    where: str
    """The directory whose limit it is: its own, an ancestor's, or the host's ("")."""
    used: float
    limit: float

    @property
    def ratio(self) -> float:
        """What is used, of the limit."""
        if not self.limit:
            return math.inf if self.used else 0.0
        return self.used / self.limit


def number(path: str) -> float | None:
    """Return the number in a file of a cgroup; None without such a file."""
    try:
        text = Path(path).read_text("ascii").strip()
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    return math.inf if text == "max" else int(text)


def host() -> Fill:
    """Return the bytes in use that are not available, and all, of the host."""
    with open("/proc/meminfo", encoding="ascii") as file:
        kib = {
            name: int(rest.split()[0]) for name, rest in (x.split(":") for x in file)
        }
    return Fill(
        "", (kib["MemTotal"] - kib["MemAvailable"]) << 10, kib["MemTotal"] << 10
    )


def ancestry(directory: str) -> Iterator[str]:
    """Yield a cgroup and those above it, as far as they can be seen."""
    while os.path.exists(f"{directory}/cgroup.procs"):
        yield directory
        directory = os.path.dirname(directory)


class Cgroup(Members):
    """A cgroup with those below it, how full it is, and what was done about it."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.teller = Teller(directory)
        self.later = self.rest = 0.0
        """When to try again; how long the latest rest was."""
        self.full_at, self.is_full = -math.inf, False
        """When it was last over the high watermark; whether it has not recovered."""
        self._limits: dict[str, float] = {}
        self._stalls = [(math.inf, 0), (math.inf, 0)]
        self._read_limits()

    def _read_limits(self) -> None:
        """Note which limits count: its own, and those of its ancestors.

        Raises:
            FileNotFoundError: There is no such cgroup, or not any more.
        """
        if not os.path.exists(f"{self.directory}/cgroup.procs"):
            message = "not the directory of a cgroup"
            raise FileNotFoundError(errno.ENOENT, message, self.directory)
        self._limits, total = {}, host().limit
        for directory in ancestry(self.directory):
            limits = (number(f"{directory}/{name}") for name in (*V2[1:], *V1[1:]))
            limit = min((n for n in limits if n is not None), default=math.inf)
            # v1 before Linux 5.11: what is below does not count there.
            is_apart = number(f"{directory}/memory.use_hierarchy") == 0
            if limit < total and (directory == self.directory or not is_apart):
                self._limits[directory] = limit

    def fill(self) -> Fill:
        """Return what is scarcest: by its limit, an ancestor's, else by the host's.

        Raises:
            FileNotFoundError: There is no such cgroup any more.
        """
        fills = []
        for where, limit in self._limits.items():
            used = number(f"{where}/{V2[0]}")
            if used is None and (used := number(f"{where}/{V1[0]}")) is None:
                self._read_limits()  # raises, unless this was the controller's end
                continue
            fills.append(Fill(where, used, limit))
        return max(fills, key=lambda fill: fill.ratio) if fills else host()

    def wait(self, now: float, least: float, most: float) -> None:
        """Try again after a rest: twice as long each time."""
        self.rest = min(max(2 * self.rest, least), most)
        self.later = now + self.rest

    def recover(self) -> None:
        """Note that there is room again."""
        self.is_full, self.later, self.rest = False, 0.0, 0.0
        self.teller.forget()

    def is_stalled(self) -> bool:
        """Return whether tasks of its own wait for memory, since the look before."""
        since, before = self._stalls[0]
        now, total = time.monotonic(), self._stalled()
        return now > since and (total - before) / 1e6 > STALLED * (now - since)

    def _stalled(self) -> int:
        """Return microseconds since its beginning; 0 if it does not tell (v1)."""
        with suppress(OSError):
            text = Path(self.directory, "memory.pressure").read_text("ascii")
            return int(text.split("total=", 1)[1].split()[0])
        return 0

    def refresh(self, now: float) -> None:
        """Look who is in it, and which limits count.

        Raises:
            OSError: The cgroup has gone, or no descriptor is free: what is open stays.
        """
        try:
            self._read_limits()
        except FileNotFoundError:
            self.close()
            raise
        self._stalls = [self._stalls[1], (time.monotonic(), self._stalled())]
        super().refresh(now)


def swap_cache(directory: str) -> int:
    """Return the bytes in the swap cache, which are the first to be reclaimed.

    PAGEOUT leaves memory there that goes to a disk; with zram it leaves nothing.
    """
    with suppress(OSError):  # /proc hides the swap
        if swap().frees_at_once:
            return 0
    try:
        with open(f"{directory}/memory.stat", "rb") as file:
            lines = dict(line.split() for line in file)
    except OSError:  # the host, or removed
        return 0
    # v1 has those of the cgroup alone, and with all below it.
    return int(lines.get(b"total_swapcached") or lines.get(b"swapcached") or 0)


def swapped_in() -> int:
    """Return how many pages the host has read from swap since its boot."""
    with open("/proc/vmstat", "rb") as file:
        return int(file.read().split(b"\npswpin ")[1].split(b"\n")[0])


def unprotected(directory: str) -> float:
    """Return the bytes that may leave a cgroup: PAGEOUT itself ignores memory.min."""
    least = math.inf
    for above in ancestry(directory):
        kept = max(number(f"{above}/{name}") or 0 for name in PROTECTED)
        used = number(f"{above}/memory.current")
        if kept and used is not None:
            least = min(least, used - kept)
    return least
