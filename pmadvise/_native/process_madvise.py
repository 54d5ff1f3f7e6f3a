"""csrc/process_madvise.c: the system call."""

from __future__ import annotations

from pmadvise._native.base import NULL, lib
from pmadvise._native.ranges import RangeArray

process_madvise_range_checked = lib.pmadvise_process_madvise_range_checked
"""Advise one range that a call takes whole: (pidfd, address, length, advice, flags).

Returns 0 if all of it was advised, -errno, or 1 if the kernel returned neither.
"""


def process_madvise_checked(
    pidfd: int, array: RangeArray, advice: int, flags: int
) -> int:
    """Advise ranges if a call takes all of them whole, else return -EINVAL.

    Raises:
        TypeError: An argument is not an int.
        OverflowError: An argument does not fit.
    """
    return lib.pmadvise_process_madvise_checked(
        pidfd, array.cdata, array.n, advice, flags
    )


def process_madvise(pidfd: int, array: RangeArray, advice: int) -> int:
    """Advise ranges, nothing checked: bytes of whole ranges advised, or -errno."""
    return lib.pmadvise_process_madvise(pidfd, array.cdata, array.n, advice, 0)


def probe(pidfd: int, advice: int) -> int:
    """Ask the kernel with an empty vector: 0, or -errno; nothing is advised.

    Every check of process_madvise(2) is made but those of the ranges.
    """
    return lib.pmadvise_process_madvise(pidfd, NULL, 0, advice, 0)
