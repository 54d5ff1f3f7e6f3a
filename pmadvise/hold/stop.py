"""The Stop protocol, which every method implements, and the deadline of a stop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

from pmadvise._native.base import original
from pmadvise._origin import own
from pmadvise.hold.target import HeldProcess

sleep: Callable[[float], None] = original(time).sleep
"""Sleep for some seconds; the thread of a stop has no greenlets to run meanwhile."""
TICK = 0.01
"""Seconds between checks of a hold, and between attempts to release a stop."""
RETRIES = (None,) * 1000
"""Attempts at what fails without memory, a tick apart; to iterate takes no memory."""
_BRISK = 2
"""Further checks of a target that follow the first at once."""


class SpentThreadError(Exception):
    """The calling thread may be a tracer: the stop must be retried in a new thread."""


class AbandonedError(Exception):
    """The caller gave up while the target was being stopped."""


class Deadline:
    """The time by which a target has to be stopped, as long as a holder waits for it.

    Args:
        at: Of time.monotonic(), in seconds.
        is_wanted: Returns whether the holder still waits.
    """

    __slots__ = ("at", "is_wanted")

    def __init__(self, at: float, is_wanted: Callable[[], bool]) -> None:
        self.at = at
        self.is_wanted = is_wanted

    def left(self) -> float:
        """Return the seconds that are left; negative once the deadline has passed."""
        return self.at - time.monotonic()

    def earlier(self, share: float) -> Deadline:
        """Return a deadline after a share, 0 to 1, of the time that is left."""
        at = time.monotonic() + max(self.left(), 0) * share
        return Deadline(at, self.is_wanted)

    def pauses(self) -> Iterator[None]:
        """Yield whenever the target should be checked, as ``pauses()`` does.

        Raises:
            AbandonedError: The holder has left.
        """
        for _ in pauses(self.at):
            if not self.is_wanted():
                raise AbandonedError
            yield


def pauses(at: float) -> Iterator[None]:
    """Yield three times at once, then after sleeps of 20 us growing to 1 ms.

    Args:
        at: When to end, of time.monotonic(), in seconds. If that has passed, yield
            once.
    """
    pause = 20e-6
    yield
    for _ in range(_BRISK):
        if time.monotonic() < at:
            os.sched_yield()  # a check takes longer than most targets need to stop
            yield
    while (left := at - time.monotonic()) > 0:
        sleep(min(pause, left))
        pause = min(2 * pause, 1e-3)
        yield


class Stop(Protocol):
    """A target that is stopped from ``stop()`` until ``release()``, by one method.

    Creating and stopping are separate steps, so that a stop that failed half-way can
    be released.

    Args:
        target: Taken over: ``release()`` closes it.
    """

    method: ClassVar[str]
    """The name of the method."""

    def __init__(self, target: HeldProcess) -> None: ...

    def stop(self, deadline: Deadline) -> None:
        """Stop the target; release() must follow, even after an exception."""

    def broken(self) -> str | None:
        """Return why the target may have run since stop(), None if it did not."""

    def is_over(self) -> bool:
        """Return whether the target died, and waits for release() to be reaped."""

    def reap(self) -> None:
        """Unblock a stop() that waits in the kernel; called by another thread."""

    def release(self) -> None:
        """Let the target run; call it again to finish what failed."""


class StopFactory(Protocol):
    """A holder's way to stop the target."""

    def make_stop(self, deadline: Deadline) -> Stop:
        """Stop the target, and return its stop; after an exception nothing is stopped.

        Raises:
            SpentThreadError: Call this again in a new thread.
        """

    def reap(self) -> None:
        """Unblock a make_stop() that waits in the kernel; called by another thread."""


def release(stop: Stop) -> None:
    """Let a target run, with retries: a shortage of memory passes."""
    retry(stop.release)


def retry(act: Callable[[], None]) -> None:
    """Call `act`, which is idempotent, until it succeeds, up to RETRIES times."""
    for _ in RETRIES:
        try:
            return act()
        except Exception:
            sleep(TICK)
    return None


def why_broken(stop: Stop) -> str | None:
    """Return why a stop is broken, None if it is not or if the target died."""
    try:
        return stop.broken()
    except own(ProcessLookupError):
        return None  # it died
    except own(OSError) as error:
        return f"whether it ran is unknown, as its state could not be read: {error}"
