"""The two system calls as users call them: checked, and with errors that help."""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Iterable
from typing import Protocol, TypeAlias

from pmadvise import _sys
from pmadvise._sys import IOV_MAX, MAX_RW_COUNT, PAGE_SIZE
from pmadvise.advice import Advice, advice_name
from pmadvise.ranges import Ranges

PIDFD_NONBLOCK: int = os.O_NONBLOCK
"""Flag of pidfd_open(): waitid(2) on the pidfd does not block. Linux 5.10."""
PIDFD_THREAD: int = os.O_EXCL
"""Flag of pidfd_open(): the pidfd is of a thread, not of a process. Linux 6.9."""


class HasFileno(Protocol):
    """What owns a file descriptor."""

    def fileno(self) -> int: ...


PidfdLike: TypeAlias = int | HasFileno

# Looked up once: a daemon calls it in its loop.
_checked_range = _sys.checked_range


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Open a file descriptor that names the process `pid` and no later one.

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
        OSError: The kernel refuses; the message says why.
    """
    pid, flags = c_int("pid", pid), _c_uint("flags", flags)
    result = _sys.pidfd_open(pid, flags)
    if result >= 0:
        return result
    raise _error(f"pidfd_open({pid})", -result, _PIDFD_OPEN_ERRNO.get(-result))


def process_madvise(
    pidfd: PidfdLike,
    ranges: Ranges | Iterable[tuple[int, int]],
    advice: Advice | int,
    flags: int = 0,
) -> int:
    """Advise the kernel about ranges of another process's memory, in one call.

    Another process takes the four advices whose ``Advice.remote`` is True; the
    caller's own takes all of them since Linux 6.13. Needs ptrace read access to the
    target and, for another process, CAP_SYS_NICE. Wraps process_madvise(2),
    Linux 5.10 (commit ecb8ac8b1f14).

    Args:
        pidfd: Of the target, or anything that has fileno().
        ranges: At most IOV_MAX (address, length) in the target, page-aligned
            addresses, in all at most MAX_RW_COUNT bytes. The kernel rounds lengths
            up to pages, and counts them as given. Empty: the kernel checks
            permission and advice, and does nothing.
        advice: What to do.
        flags: 0; the kernel knows no other yet.

    Returns:
        Bytes advised, those of whole ranges. Less than asked if a later range
        could not be: ask for that one alone to learn the errno. Bytes advised are
        not bytes reclaimed.

    Raises:
        TypeError: An argument is of the wrong type; for ranges, with its index.
        ValueError: The kernel would refuse the ranges, or cut them silently; the
            message has the index. Nothing was advised.
        PermissionError: ptrace read access (EACCES) or CAP_SYS_NICE (EPERM) is
            missing, or a seccomp filter is in the way (EPERM).
        ProcessLookupError: The target has exited, or has no memory (ESRCH).
        OSError: What else the kernel says, before the first range was done.
    """
    if not isinstance(ranges, Ranges):
        ranges = Ranges(ranges)
    try:
        result = _sys.checked(pidfd, ranges._array, ranges._n, advice, flags)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        pidfd, advice, flags = _arguments(pidfd, advice, flags)
        result = _sys.checked(pidfd, ranges._array, ranges._n, advice, flags)
    if result >= 0:
        return result
    raise _failure(pidfd, ranges, advice, flags, -result)


def process_madvise_range(
    pidfd: PidfdLike,
    address: int,
    length: int,
    advice: Advice | int,
    flags: int = 0,
) -> int:
    """Advise the kernel about one range of another process's memory.

    The form that the call had when it was proposed; the same as
    ``process_madvise(pidfd, [(address, length)], advice, flags)``, and faster.

    Args:
        pidfd: Of the target, or anything that has fileno().
        address: In the target, page-aligned.
        length: Bytes, at most MAX_RW_COUNT.
        advice: What to do.
        flags: 0; the kernel knows no other yet.

    Returns:
        `length`: bytes advised, not bytes reclaimed.

    Raises:
        TypeError, ValueError, OSError: As process_madvise() does. On ENOMEM (a
            hole) the mapped parts of the range were advised.
    """
    if flags:
        return process_madvise(pidfd, ((address, length),), advice, flags)
    try:
        result = _checked_range(pidfd, address, length, advice)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return process_madvise(pidfd, ((address, length),), advice)
    if result >= 0:
        return result
    raise _failure(pidfd, Ranges(((address, length),)), advice, 0, -result)


def _arguments(
    pidfd: PidfdLike, advice: Advice | int, flags: int
) -> tuple[int, int, int]:
    return fileno_of(pidfd), c_int("advice", advice), _c_uint("flags", flags)


def fileno_of(pidfd: PidfdLike) -> int:
    """Return the file descriptor that `pidfd` is or has."""
    try:
        return c_int("pidfd", pidfd)  # type: ignore[arg-type]
    except TypeError:
        fileno = getattr(pidfd, "fileno", None)
        if fileno is None:
            raise TypeError(
                f"pidfd {pidfd!r} is neither an int nor has it fileno()"
            ) from None
    return c_int("pidfd.fileno()", fileno())


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


def _c_uint(name: str, value: int) -> int:
    # As in C, -1 is every bit set: the kernel then says what it thinks of it.
    return c_int(name, value) & 0xFFFFFFFF


def _failure(
    pidfd: PidfdLike,
    ranges: Ranges,
    advice: Advice | int,
    flags: int,
    number: int,
) -> Exception:
    """Say why a call ended with errno `number`, asking the kernel where in doubt."""
    refused = _sys.ranges_refused(ranges._array, ranges._n)
    if refused != ranges._n:
        return _refused_range(ranges, refused)
    return explain(fileno_of(pidfd), advice, number, flags)


def _refused_range(ranges: Ranges, index: int) -> ValueError:
    if index == IOV_MAX:
        return ValueError(
            f"ranges[{index}]: one call takes at most IOV_MAX, {IOV_MAX}, ranges, "
            f"and these are {len(ranges)}"
        )
    address, length = ranges[index]
    if address % PAGE_SIZE:
        return ValueError(
            f"ranges[{index}]: address {address:#x} is not a multiple of "
            f"the page size, {PAGE_SIZE:#x}"
        )
    return ValueError(
        f"ranges[{index}]: with its length {length:#x} the call has "
        f"{ranges[: index + 1].total:#x} bytes, and the kernel cuts one call at "
        f"MAX_RW_COUNT, {MAX_RW_COUNT:#x}, silently"
    )


def explain(pidfd: int, advice: int, number: int, flags: int = 0) -> OSError:
    """Return the OSError for errno `number` of process_madvise(2), with the reason.

    Where one errno has several causes the kernel is asked with empty vectors, which
    advise nothing.
    """
    return _error(
        f"process_madvise({advice_name(advice)})",
        number,
        _reason(pidfd, advice, number, flags),
    )


def _reason(pidfd: int, advice: int, number: int, flags: int) -> str | None:
    if number == errno.EPERM:
        if _sys.probe(-1, advice) == -errno.EPERM:
            return (
                "a seccomp filter refuses process_madvise: add CAP_SYS_PTRACE to the "
                "container, or the call to the filter"
            )
        return (
            "CAP_SYS_NICE in the initial user namespace is missing: without it a "
            "process may advise itself alone (Linux 6.12 and newer)"
        )
    if number == errno.EINVAL:
        if flags:
            return f"flags is {flags:#x}, and the kernel knows none: pass 0"
        if _sys.probe(pidfd, advice) == -errno.EINVAL:
            return (
                f"the kernel does not know {advice_name(advice)} for another process"
                + (": " + _SINCE[advice] if advice in _SINCE else "")
            )
    return _ERRNO.get(number)


def short_reason(advice: int, number: int) -> str:
    """Return why one range, mapped or not, is refused with errno `number`."""
    if advice == Advice.COLLAPSE and number == errno.EINVAL:
        return "cannot be a huge page: too short, nothing in memory, or not allowed"
    return _SHORT.get(number) or os.strerror(number)


_SHORT = {
    errno.ENOMEM: "not mapped, or no memory for it",
    errno.EINVAL: "locked, hugetlb or a device's",
    errno.EFAULT: "outside of user space",
    errno.EAGAIN: "in use by the kernel at the moment",
}

_SINCE: dict[int, str] = {
    Advice.COLD: "it needs Linux 5.10 or newer",
    Advice.PAGEOUT: "it needs Linux 5.10 or newer",
    Advice.WILLNEED: "it needs Linux 5.15 or newer",
    Advice.COLLAPSE: "it needs Linux 6.1 or newer, with transparent huge pages",
}

_ERRNO = {
    errno.EACCES: (
        "ptrace read access to the target is refused: it is another user's, "
        "non-dumpable, has more capabilities, or a security module says no; run as "
        "its user, or with CAP_SYS_PTRACE (or CAP_PERFMON, where the kernel takes it)"
    ),
    errno.EAGAIN: "the memory is in use by the kernel at the moment: try again",
    errno.EBADF: "pidfd is no open file descriptor of pidfd_open(2)",
    errno.EFAULT: "a range lies outside of user space, as [vsyscall] does",
    errno.EINVAL: (
        "the first range holds a mapping that takes no such advice: locked, hugetlb, "
        "or of a device (VM_LOCKED, VM_HUGETLB, VM_PFNMAP)"
    ),
    errno.ENOMEM: (
        "a part of the first range is not mapped, what is mapped of it was advised; "
        "or the kernel has no memory"
    ),
    errno.ENOSYS: (
        "there is no such system call: it needs Linux 5.10 or newer, built with "
        "CONFIG_ADVISE_SYSCALLS, or a seccomp filter hides it"
    ),
    errno.ESRCH: (
        "the target has exited, or has no memory of its own: a zombie, a kernel "
        "thread, or a thread group whose leader has exited"
    ),
}

_PIDFD_OPEN_ERRNO = {
    errno.EINVAL: (
        "pid is not the ID of a process (a thread's needs PIDFD_THREAD, Linux 6.9), "
        "or the kernel does not know these flags"
    ),
    errno.ENOENT: "it is a thread and not the leader of its process: use PIDFD_THREAD",
    errno.ENOSYS: (
        "there is no such system call: it needs Linux 5.3 or newer, or a seccomp "
        "filter hides it"
    ),
    errno.EPERM: "a seccomp filter refuses pidfd_open: allow the call in the filter",
    errno.ESRCH: "there is no such process",
}


def _error(call: str, number: int, reason: str | None) -> OSError:
    text = f"{call}: {os.strerror(number)}"
    return OSError(number, f"{text}: {reason}" if reason else text)
