"""Types of the keywords of Process.advise(), for annotations alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
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


__all__ = ["AdviseOptions", "Cancel", "EachOptions", "Unpack"]


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
    dry_run: bool
    touch: bool


class AdviseOptions(EachOptions, total=False):
    """The keywords of Process.advise(), for functions that pass them on."""

    budget: int | None
