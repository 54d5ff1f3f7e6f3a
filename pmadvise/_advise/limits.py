"""Limits: the keywords of Process.advise(), checked, and the clock that keeps them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from pmadvise._arguments import check_callables, n_bytes, seconds
from pmadvise._record import record
from pmadvise.advice import Advice, advice_name
from pmadvise.report import Ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from pmadvise._advise.keywords import Cancel

    T = TypeVar("T")


@record
class Limits:
    """The keywords of Process.advise(), which documents each; checked."""

    max_stall: float | None = 0.05
    budget: int | None = None
    timeout: float | None = None
    cancel: Cancel | None = None
    on_progress: Callable[[int, int], object] | None = None
    measure: bool = False
    dry_run: bool = False
    touch: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TypeError: One is of the wrong type.
            ValueError: One is out of range.
        """
        for name, value in (("max_stall", self.max_stall), ("timeout", self.timeout)):
            if value is not None:  # and this class is frozen
                object.__setattr__(self, name, seconds(name, value))
        if self.max_stall == 0:
            raise ValueError(
                f"max_stall {self.max_stall!r} is not more than 0 seconds: pass None "
                "for calls as large as the kernel takes"
            )
        if self.budget is not None:
            object.__setattr__(self, "budget", n_bytes("budget", self.budget))
        if self.cancel is not None and not callable(
            getattr(self.cancel, "is_set", None)
        ):
            raise TypeError(f"cancel {self.cancel!r} has no is_set()")
        check_callables(on_progress=self.on_progress)

    def check_advice(self, advice: int) -> None:
        """Raise ValueError if a keyword is not of an advice."""
        if self.touch and advice != Advice.WILLNEED:
            name = advice_name(advice)
            raise ValueError(f"touch=True is of WILLNEED alone, not of {name}")


class StopAdvising(Exception):
    """The early end of the work; `ended` is that of the Report."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended)
        self.ended: Ended = ended


class CallerError(BaseException):
    """An exception of a function of the caller's, on its way to the caller.

    In this cover it is never taken for one of the target, nor for the end of a
    generator; run() and advise_each() take the cover off.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def of_caller(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of the caller's.

    Raises:
        CallerError: It raised an exception.
    """
    try:
        return function(*arguments)
    except CallerError:
        raise
    except BaseException as error:
        raise CallerError(error) from None


def attach(error: BaseException, name: str, value: object) -> None:
    """Set an attribute of an exception of the caller's, where its class lets us."""
    try:
        # Past any __setattr__ of its own: some exceptions are frozen.
        BaseException.__setattr__(error, name, value)
    except (AttributeError, TypeError):
        return  # it has slots: it leaves without


class Clock:
    """The time since an advise() began, and whether it is to end.

    Args:
        limits: Its timeout, and its cancel.
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

    def left(self) -> float:
        """Return the seconds to the timeout."""
        timeout = self._limits.timeout
        return math.inf if timeout is None else timeout - self.elapsed()

    def check(self) -> None:
        """Raise StopAdvising when the time is over or the caller cancels."""
        cancel = self._limits.cancel
        if cancel is not None and of_caller(cancel.is_set):
            raise StopAdvising("cancelled")
        if self.left() <= 0:
            raise StopAdvising("timeout")
