"""The requirements of a check: of the host, else Skip; of pmadvise, else an error."""

from __future__ import annotations

import errno
import resource
import time
from collections.abc import Callable
from typing import TypeVar

from pmadvise import Report, _reasons
from pmadvise._proc.files import lines, read_or_none
from pmadvise._support import host
from pmadvise.selftest.libc import LRU_BATCH

MIB = 1 << 20
TOLERANCE = LRU_BATCH // 2
"""Bytes that may escape an advice: pages that a CPU has not yet put on a list."""
SMALL = max(4 * MIB, 4 * LRU_BATCH)
"""Bytes for a check whose point is not size."""
_SPARE_MEMORY = 8 * MIB
"""Memory of a child and of the kernel, beside the memory that a check fills."""
_ENOUGH_DESCRIPTORS = 64
_TRIES = 20


class Skip(Exception):
    """A check can't be made here; the message names what is missing."""


Check = TypeVar("Check", bound=Callable[[int], str])


def summary(text: str) -> Callable[[Check], Check]:
    """Give a check its line in the help; Python removes docstrings with -OO."""

    def describe(check: Check) -> Check:
        check.__doc__ = text
        return check

    return describe


def mib(size: int) -> str:
    """Return a size for a message."""
    return f"{size / MIB:.0f} MiB" if size >= MIB else f"{size >> 10} KiB"


def require_memory(size: int) -> None:
    """Skip unless the limits of this memory cgroup allow so many bytes more."""
    limit_and_left = host.memory_limit()
    if limit_and_left is None:
        return
    limit, left = limit_and_left
    if size + _SPARE_MEMORY > left:
        raise Skip(
            f"this memory cgroup may use {mib(limit)}, of which {mib(left)} are left, "
            f"and {mib(size + _SPARE_MEMORY)} are needed: {_how_to_fit(left)}"
        )


def oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory."""
    for line in lines(read_or_none("/proc/vmstat")):
        name, _, value = line.partition(b" ")
        if name == b"oom_kill":
            return int(value)
    return 0


def killed_for_memory() -> Skip:
    """Return the Skip for a child that the kernel killed for want of memory."""
    limit_and_left = host.memory_limit()
    if limit_and_left is None:
        return Skip(
            "the kernel killed the child, as the host is out of memory: free some, or "
            "pass a smaller --size"
        )
    limit, left = limit_and_left
    return Skip(
        f"the kernel killed the child, as this memory cgroup may use {mib(limit)}: "
        f"{_how_to_fit(left)}"
    )


def _how_to_fit(left: int) -> str:
    fits = max((left - _SPARE_MEMORY) // MIB, 1)
    return (
        "raise the limit (docker run --memory; podman run --memory; Kubernetes: "
        f"resources.limits.memory; systemd: MemoryMax=), or pass --size {fits}"
    )


def no_descriptors(error: BaseException) -> Skip | None:
    """Return the Skip for an error due to too few file descriptors; None for others.

    Args:
        error: Raised by a check; its causes are examined too.
    """
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number in (errno.EMFILE, errno.ENFILE):
            answer = _reasons.no_descriptor(number)
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            few = number == errno.EMFILE and limit < _ENOUGH_DESCRIPTORS
            return Skip(
                f"this process may open {limit} files, which is too few: raise "
                f"RLIMIT_NOFILE (ulimit -n {_ENOUGH_DESCRIPTORS}; docker run --ulimit "
                f"nofile={_ENOUGH_DESCRIPTORS}; systemd: LimitNOFILE=)"
                if few
                else str(answer)
            )
        cause = cause.__cause__ or cause.__context__
    return None


def require_whole(report: Report, size: int) -> None:
    """Raise unless all was advised."""
    if (report.advised, report.skipped, report.ended) != (size, (), "complete"):
        raise AssertionError(f"of {size} bytes not all were advised: {report}")


def require_raises(
    case: str, error: type[Exception], number: int, act: Callable[[], object]
) -> None:
    """Raise unless `act` raises that error.

    Args:
        case: For the message.
        error: Its type.
        number: Its errno; 0 where it has none.
        act: The call that is to fail.
    """
    try:
        result = act()
    except error as raised:
        if number and getattr(raised, "errno", None) != number:
            raise AssertionError(f"{case}: {raised!r}") from raised
        if not str(raised):
            raise AssertionError(f"{case}: {raised!r} has no message") from raised
        return
    raise AssertionError(f"{case}: nothing is raised, {result!r} is returned")


def retry_until(
    act: Callable[[], object], has_effect: Callable[[], bool], tries: int = _TRIES
) -> bool:
    """Act until that has its effect: pages that are busy now escape an advice.

    Args:
        act: Advises.
        has_effect: Looks at the memory.
        tries: How often to act, at most.

    Returns:
        Whether it had its effect.
    """
    for attempt in range(tries):
        act()
        if has_effect():
            return True
        time.sleep(0.001 * attempt)
    return False
