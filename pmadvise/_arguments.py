"""Arguments of the public calls, checked before the kernel is asked."""

from __future__ import annotations

import math
import operator

from pmadvise._native.base import PAGE_SIZE
from pmadvise.ranges import Ranges, RangesLike

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol, TypeAlias
else:
    Protocol = object  # importing typing takes longer than all the rest


class HasFileno(Protocol):
    """An object that owns a file descriptor."""

    def fileno(self) -> int:
        """Return the file descriptor."""


PidfdLike: TypeAlias = int | HasFileno


def fileno_of(pidfd: PidfdLike) -> int:
    """Return `pidfd` if it is a file descriptor, else its fileno()."""
    try:
        return c_int("pidfd", pidfd)  # type: ignore[arg-type]
    except TypeError:
        fileno = getattr(pidfd, "fileno", None)
        if fileno is None:
            raise TypeError(
                f"pidfd must be an int or have fileno(), not {pidfd!r}"
            ) from None
    return c_int("pidfd.fileno()", fileno())


def pin_of(pidfd: PidfdLike) -> AbstractContextManager[object]:
    """Return a context manager that keeps the number of `pidfd` while it is used.

    Another thread may close a Process at any time, and the number be another file's
    then. A number that is given as an int is its caller's to keep.
    """
    pin = getattr(pidfd, "_pin", None)
    return _NoPin() if pin is None else pin()


class _NoPin:
    """A context manager that keeps nothing; contextlib takes long to import."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


def c_int(name: str, value: int) -> int:
    """Return `value` as an int of C; raise TypeError or ValueError, naming it."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} {value!r} is not an int but {type(value).__name__}"
        ) from None
    if not -(1 << 31) <= number < 1 << 31:
        raise ValueError(f"{name} {number} does not fit into a C int")
    return number


def c_uint(name: str, value: int) -> int:
    """Return `value` as an unsigned int of C; errors as c_int()."""
    # As in C, -1 is every bit set: let the kernel reject it.
    return c_int(name, value) & 0xFFFFFFFF


def n_bytes(name: str, value: int) -> int:
    """Return a number of bytes, 0 or more; errors as c_int()."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} {value!r} is not an int") from None
    if number < 0:
        raise ValueError(f"{name} {number} is negative")
    return number


def seconds(name: str, value: float) -> float:
    """Return a number of seconds, 0 or more; errors as c_int()."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} {value!r} is not a number of seconds")
    if not value >= 0:  # NaN too
        raise ValueError(f"{name} {value!r} is not 0 seconds or more")
    try:
        return float(value)
    except OverflowError:  # an int that is too large for a float
        return math.inf


def finite_seconds(name: str, value: float) -> None:
    """Refuse what is no finite number of seconds, 0 or more; errors as c_int()."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} {value!r} is not a number")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} {value!r} is not 0 or more, and finite")


def check_callables(**callbacks: object) -> None:
    """Raise TypeError for what is neither None nor callable."""
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise TypeError(f"{name} {callback!r} is not callable")


def aligned(ranges: RangesLike) -> Ranges:
    """Return the ranges as a Ranges whose addresses are page-aligned.

    Raises:
        TypeError, ValueError: As Ranges; or an address is not page-aligned.
    """
    if not isinstance(ranges, Ranges):
        ranges = Ranges(ranges)
    first_unaligned = ranges._array.first_unaligned()
    if first_unaligned != len(ranges):
        raise unaligned(ranges, first_unaligned)
    return ranges


def unaligned(ranges: Ranges, index: int) -> ValueError:
    """Return the error for a range that does not begin on a page boundary."""
    return ValueError(
        f"ranges[{index}]: address {ranges[index][0]:#x} is not a multiple of "
        f"the page size, {PAGE_SIZE:#x}"
    )
