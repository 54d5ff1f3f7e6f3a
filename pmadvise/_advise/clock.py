"""When an advise() is to end, by time or by its caller."""

from __future__ import annotations

import time
from collections.abc import Callable

from pmadvise._advise.limits import Limits
from pmadvise.report import Ended


class StopAdvising(Exception):
    """Ends the work early; `ended` is that of the Report."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended)
        self.ended: Ended = ended


class Clock:
    """The time since an advise() began, and whether it is to end.

    Args:
        limits: When it is.
        monotonic: Returns seconds.
    """

    def __init__(
        self, limits: Limits, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits, self._monotonic = limits, monotonic
        self._begin = monotonic()

    def elapsed(self) -> float:
        """Return seconds."""
        return self._monotonic() - self._begin

    def check(self) -> None:
        """Raise StopAdvising when the time is over or the caller cancels."""
        cancel, timeout = self._limits.cancel, self._limits.timeout
        if cancel is not None and cancel.is_set():
            raise StopAdvising("cancelled")
        if timeout is not None and self.elapsed() >= timeout:
            raise StopAdvising("timeout")
