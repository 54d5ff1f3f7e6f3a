"""What a method of stopping a process is made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from pmadvise.hold.deadline import Deadline

TICK = 0.01
"""Seconds between looks at a hold; between two attempts to let go."""
RETRIES = (None,) * 1000
"""For what fails without memory: a tick lies between two of them."""


class SpentThreadError(Exception):
    """The calling thread may be a tracer until it ends: another one has to go on."""


class Stop(Protocol):
    """A target, or a cgroup, that is stopped from ``stop()`` until ``release()``.

    Creating and stopping are separate, so that an object that failed half-way can be
    released.
    """

    @property
    def method(self) -> str:
        """The name of the way it is stopped."""

    def stop(self, deadline: Deadline) -> None:
        """Stop the target; after an exception it is still to be released."""

    def broken(self) -> str | None:
        """Return why the target may have run since, None if it did not."""

    def is_over(self) -> bool:
        """Return whether the target died, so that there is nothing to hold."""

    def reap(self) -> None:
        """Help a stop() that the kernel keeps waiting; called in another thread."""

    def release(self) -> None:
        """Let the target go; may be called again, to finish what failed."""


class Taker(Protocol):
    """A way to stop the target, that a holder brings with it."""

    def take(self, deadline: Deadline) -> Stop:
        """Return the target's stop; raise, with nothing stopped.

        After SpentThreadError it is called again, in another thread.
        """

    def reap(self) -> None:
        """Help a take() that the kernel keeps waiting; called in another thread."""


def release(stop: Stop) -> None:
    """Let a target go, again and again if something fails: want of memory passes."""
    insist(stop.release)


def insist(act: Callable[[], None]) -> None:
    """Do what must be done, again and again if it fails; twice does no harm."""
    for _ in RETRIES:
        try:
            return act()
        except Exception:
            time.sleep(TICK)
    return None


def look(stop: Stop) -> str | None:
    """Return why a stop is broken, None if it is not or if the target died."""
    try:
        return stop.broken()
    except ProcessLookupError:
        return None  # it died
    except OSError as error:
        return f"it can't be looked at: {error}"
