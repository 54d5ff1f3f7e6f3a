"""Calls: the two system calls with checked arguments and explained errors."""

from __future__ import annotations

import os

from pmadvise._arguments import (
    HasFileno,
    PidfdLike,
    c_int,
    c_uint,
    fileno_of,
    pin_of,
    unaligned,
)
from pmadvise._native.base import IOV_MAX, MAX_RW_COUNT, PAGE_SIZE
from pmadvise._native.descriptor import PIDFD_NONBLOCK, PIDFD_THREAD
from pmadvise._native.descriptor import pidfd_open as _pidfd_open
from pmadvise._native.process_madvise import (
    process_madvise_checked,
    process_madvise_range_checked,
)
from pmadvise._native.ranges import RangeArray
from pmadvise._origin import own
from pmadvise.ranges import Ranges, RangesLike

__all__ = [
    "PIDFD_NONBLOCK",
    "PIDFD_THREAD",
    "HasFileno",
    "PidfdLike",
    "pidfd_open",
    "process_madvise",
    "process_madvise_range",
]


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Open a file descriptor of the process `pid`, and never of a later one.

    It is close-on-exec, readable once the process has ended, and the caller's to
    close. Wraps pidfd_open(2), Linux 5.3.

    Args:
        pid: A process ID; with PIDFD_THREAD a thread ID.
        flags: 0 or PIDFD_NONBLOCK, PIDFD_THREAD.

    Returns:
        The file descriptor.

    Raises:
        TypeError: `pid` or `flags` is not an int.
        ValueError: `pid` or `flags` does not fit into a C int.
        ProcessLookupError: There is no such process (ESRCH).
        OSError: The kernel refuses; the message states the reason.
    """
    pid, flags = c_int("pid", pid), c_uint("flags", flags)
    result = _pidfd_open(pid, flags)
    if result >= 0:
        return result
    call = f"pidfd_open({pid})"
    try:
        from pmadvise._reasons import of_pidfd_open  # noqa: PLC0415 - only for errors
    except own(ImportError, OSError):
        raise _unexplained(-result, call) from None
    raise of_pidfd_open(-result).error(call)


def process_madvise(
    pidfd: PidfdLike,
    ranges: RangesLike,
    advice: int,
    flags: int = 0,
) -> int:
    """Advise the kernel about ranges of another process's memory, in one call.

    Another process can be given the four advices whose ``Advice.remote`` is True; the
    caller itself all of them since Linux 6.13. Needs ptrace read access to the target
    and, for another process, CAP_SYS_NICE. Wraps process_madvise(2), Linux 5.10
    (commit ecb8ac8b1f14).

    Args:
        pidfd: Of the target, or an object with fileno().
        ranges: At most IOV_MAX (address, length) in the target, page-aligned
            addresses, with a sum of at most MAX_RW_COUNT bytes. The kernel rounds
            lengths up to pages, and counts them as given. Empty: the kernel checks
            permission and advice, and does nothing.
        advice: An Advice, or its number.
        flags: 0; the kernel defines no flags yet.

    Returns:
        Bytes advised, as whole ranges. Less than requested if a later range could
        not be advised: call again with that range alone to get its errno. Bytes
        advised are not bytes reclaimed.

    Raises:
        TypeError: An argument is of the wrong type; for ranges, with its index.
        ValueError: The kernel would refuse the ranges, or cut them silently; the
            message names the index. Nothing was advised.
        PermissionError: ptrace read access (EACCES) or CAP_SYS_NICE (EPERM) is
            missing, or a seccomp filter is in the way (EPERM).
        ProcessLookupError: The target has exited, or has no memory (ESRCH).
        OSError: The kernel refuses the first range.
    """
    if not isinstance(ranges, Ranges):
        ranges = Ranges(ranges)
    array = ranges._array
    try:
        result = process_madvise_checked(pidfd, array, advice, flags)  # type: ignore[arg-type]
    except own(TypeError, OverflowError):
        with pin_of(pidfd):
            number = fileno_of(pidfd)
            advice, flags = c_int("advice", advice), c_uint("flags", flags)
            result = process_madvise_checked(number, array, advice, flags)
            if result < 0:
                raise _failure(number, array, advice, flags, -result) from None
    if result < 0:
        raise _failure(fileno_of(pidfd), array, advice, flags, -result)
    return result


def process_madvise_range(
    pidfd: PidfdLike,
    address: int,
    length: int,
    advice: int,
    flags: int = 0,
) -> int:
    """Advise the kernel about one range of another process's memory.

    The same as ``process_madvise(pidfd, [(address, length)], advice, flags)``, but
    faster.

    Args:
        pidfd: Of the target, or an object with fileno().
        address: In the target, page-aligned.
        length: Bytes, at most MAX_RW_COUNT.
        advice: An Advice, or its number.
        flags: 0; the kernel defines no flags yet.

    Returns:
        Bytes advised: `length`. They are not bytes reclaimed.

    Raises:
        TypeError, ValueError, OSError: As process_madvise() does. On ENOMEM (a
            hole) the mapped parts of the range were advised.
    """
    try:
        if (
            result := process_madvise_range_checked(
                pidfd,  # type: ignore[arg-type]
                address,
                length,
                advice,
                flags,
            )
        ) == 0:
            return length
    except own(TypeError, OverflowError):
        result = 1
    if result > 0:  # arguments to convert, or a filter that refuses everything
        return process_madvise(pidfd, ((address, length),), advice, flags)
    array = Ranges(((address, length),))._array
    raise _failure(fileno_of(pidfd), array, advice, flags, -result)


def _failure(
    pidfd: int,
    array: RangeArray,
    advice: int,
    flags: int,
    number: int,
) -> Exception:
    """Return the exception for errno `number`; the kernel is asked if in doubt."""
    refused = array.first_refused()
    if refused != len(array):
        return _refused_range(Ranges._of_array(array), refused)
    return explain(pidfd, advice, number, flags)


def _refused_range(ranges: Ranges, index: int) -> ValueError:
    if index == IOV_MAX:
        return ValueError(
            f"ranges[{index}]: one call takes at most IOV_MAX, {IOV_MAX}, ranges, "
            f"and these are {len(ranges)}"
        )
    address, _ = ranges[index]
    if address % PAGE_SIZE:
        return unaligned(ranges, index)
    return ValueError(
        f"ranges[{index}]: the ranges up to here total "
        f"{ranges[: index + 1].total:#x} bytes; one call handles at most MAX_RW_COUNT "
        f"({MAX_RW_COUNT:#x}) and the kernel would silently ignore the rest"
    )


def explain(pidfd: int, advice: int, number: int, flags: int = 0) -> OSError:
    """Return the OSError for errno `number` of process_madvise(2), with the reason."""
    call = f"process_madvise({int(advice)})"
    try:
        from pmadvise.advice import advice_name  # noqa: PLC0415 - as above

        call = f"process_madvise({advice_name(advice)})"
        from pmadvise._reasons import of_process_madvise  # noqa: PLC0415
    except own(ImportError, OSError):
        return _unexplained(number, call)
    return of_process_madvise(pidfd, advice, number, flags).error(call)


def _unexplained(number: int, call: str) -> OSError:
    """Return the OSError if the reasons can't be loaded: no descriptor is free."""
    return OSError(number, f"{call}: {os.strerror(number)}")
