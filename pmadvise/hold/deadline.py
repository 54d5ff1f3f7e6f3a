"""How long a target may take to be stopped, and when to look whether it is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

_BRISK = 2
"""Looks that follow each other at once."""


class AbandonedError(Exception):
    """Nobody wants the hold any more that is being taken."""


class Deadline:
    """The time until which a target is to be stopped, if that is still wanted.

    Args:
        at: Of time.monotonic(), in seconds.
        is_wanted: Returns whether somebody waits for the hold.
    """

    __slots__ = ("at", "is_wanted")

    def __init__(self, at: float, is_wanted: Callable[[], bool]) -> None:
        self.at = at
        self.is_wanted = is_wanted

    def left(self) -> float:
        """Return the seconds that are left; less than 0 when it is over."""
        return self.at - time.monotonic()

    def part(self, share: float) -> Deadline:
        """Return an earlier one, after a share of what is left."""
        at = time.monotonic() + max(self.left(), 0) * share
        return Deadline(at, self.is_wanted)

    def pauses(self) -> Iterator[None]:
        """Yield whenever it is time to look at the target; at least once.

        Raises:
            AbandonedError: The hold is no longer wanted.
        """
        for _ in pauses(self.at):
            if not self.is_wanted():
                raise AbandonedError
            yield


def pauses(at: float) -> Iterator[None]:
    """Yield three times at once, then after sleeps of 20 us growing to 1 ms, to a time.

    Args:
        at: Of time.monotonic(), in seconds. When it is past there is one look.
    """
    pause = 20e-6
    yield
    for _ in range(_BRISK):
        if time.monotonic() < at:
            os.sched_yield()  # a look takes longer than most targets need to stop
            yield
    while (left := at - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, 1e-3)
        yield
