"""The keywords of Process.advise(): when it stops, and whom it informs."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pmadvise._advise.keywords import Cancel


@dataclass(frozen=True, slots=True)
class Limits:
    """The same, checked; Process.advise() documents each."""

    max_stall: float | None = 0.05
    budget: int | None = None
    timeout: float | None = None
    cancel: Cancel | None = None
    on_progress: Callable[[int, int], object] | None = None
    measure: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TypeError: One is of the wrong type.
            ValueError: One is out of range.
        """
        for name, seconds in (("max_stall", self.max_stall), ("timeout", self.timeout)):
            if seconds is None:
                continue
            if not isinstance(seconds, (int, float)):
                raise TypeError(f"{name} {seconds!r} is not a number of seconds")
            if not seconds >= 0:  # NaN too
                raise ValueError(f"{name} {seconds!r} is not 0 seconds or more")
        if self.max_stall == 0:
            raise ValueError(
                f"max_stall {self.max_stall!r} is not more than 0 seconds: pass None "
                "for calls as large as the kernel takes"
            )
        if self.budget is not None:
            try:
                budget = operator.index(self.budget)
            except TypeError:
                raise TypeError(f"budget {self.budget!r} is not an int") from None
            if budget < 0:
                raise ValueError(f"budget {budget} is negative")
            object.__setattr__(self, "budget", budget)  # frozen
        if self.cancel is not None and not callable(
            getattr(self.cancel, "is_set", None)
        ):
            raise TypeError(f"cancel {self.cancel!r} has no is_set()")
        if self.on_progress is not None and not callable(self.on_progress):
            raise TypeError(f"on_progress {self.on_progress!r} is not callable")
