"""The keywords of Process.advise(): when it stops, and whom it informs."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Unpack
elif sys.version_info >= (3, 11):
    from typing import Unpack
else:

    class Unpack:
        """typing.Unpack for Python 3.10: annotations alone use it."""

        def __class_getitem__(cls, item: type) -> type:
            """Return the TypedDict itself."""
            return item


__all__ = ["AdviseOptions", "Cancel", "EachOptions", "Limits", "Unpack"]


class Cancel(Protocol):
    """An object that ends the work when its is_set() is true: a threading.Event."""

    def is_set(self) -> bool:
        """Return whether the work is to end."""


class EachOptions(TypedDict, total=False):
    """The keywords of Process.advise() that advise_each() passes on."""

    max_stall: float | None
    timeout: float | None
    cancel: Cancel | None
    on_progress: Callable[[int, int], object] | None
    measure: bool


class AdviseOptions(EachOptions, total=False):
    """The keywords of Process.advise(), for functions that pass them on."""

    budget: int | None


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
