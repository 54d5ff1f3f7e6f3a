"""Which processes are paged out, and in which order: replace it by what you know.

A system that knows which of its processes matter (the window in front, the request
that waits, the job that sleeps) does better than this, which knows CPU time alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pmadvise import Process, Status

LATELY, SHORTEST = 2.0, 0.5  # seconds that CPU time counts; between two looks at it
BUSY = 0.02  # of a CPU: not to be paged out
SMALL = 1 << 20  # bytes that are not worth a look
WOKEN = 1 << 20  # bytes that came back from swap: it wakes
BACKOFF, BACKOFF_MAX = 30.0, 600.0  # seconds


@dataclass(slots=True)
class Candidate:
    """A process, and what was seen of it."""

    process: Process
    cgroup: str
    status: Status
    """The latest."""
    looked: float
    """When, by time.monotonic()."""
    cpu: float = math.inf
    """Its share of a CPU lately; not known yet of a new one."""
    swap: int = 0
    """Its bytes in swap right after it was paged out; 0: it was not, or it woke."""
    advised: float = -math.inf
    """When it was last paged out."""
    backoff: float = BACKOFF
    until: float = -math.inf
    """It is left alone until then."""
    gone: bool = False

    def look(self, now: float) -> int:
        """Look at it; if it wakes, return the bytes that came back from swap.

        Then it is left alone for a while. Once it has gone the bytes are 0: what it had
        in swap has gone with it.
        """
        try:
            status = self.process.status()
        except ProcessLookupError:
            self.gone = True
            return 0
        if status.state in "ZX":
            return 0
        if (seconds := now - self.looked) >= SHORTEST:
            share = (status.cpu - self.status.cpu) / seconds
            weight = math.exp(-seconds / LATELY) if math.isfinite(self.cpu) else 0.0
            self.cpu = weight * self.cpu + (1 - weight) * share if weight else share
            self.looked = now
            self.status = status
        if (back := self.swap - status.swap) < WOKEN:
            return 0
        self.swap = 0
        self.leave_alone(now)
        return back

    def paged_out(self, swap: int, now: float) -> None:
        """Note that so many bytes of it are in swap now."""
        if now - self.advised > 4 * self.backoff:  # it slept long since the last time
            self.backoff = BACKOFF
        self.swap, self.advised = swap, now

    def begin_anew(self) -> None:
        """Note that it runs another program now: what was seen of it is no use."""
        self.cpu, self.swap = math.inf, 0
        try:
            self.process.maps()
        except OSError:
            self.until = math.inf

    def leave_alone(self, now: float) -> None:
        """Do not page it out for a while: longer each time."""
        self.until = now + self.backoff
        self.backoff = min(2 * self.backoff, BACKOFF_MAX)


def rank(candidates: Iterable[Candidate], now: float) -> list[Candidate]:
    """Return the processes that may be paged out, the first to go first."""
    return sorted(
        (
            one
            for one in candidates
            if one.cpu < BUSY and one.until <= now and one.status.anonymous >= SMALL
        ),
        key=lambda one: (round(one.cpu, 3), -one.status.anonymous),
    )
