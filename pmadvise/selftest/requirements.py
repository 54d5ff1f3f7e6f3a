"""Why a check can't be made here, and what to do about it."""

from __future__ import annotations

import errno
import resource

from pmadvise import _reasons
from pmadvise._proc.files import lines, read_or_none
from pmadvise._support import host

MIB = 1 << 20
_SPARE_MEMORY = 8 * MIB
"""What a child and the kernel use beside the memory that a check fills."""
_ENOUGH_DESCRIPTORS = 64


class Skip(Exception):
    """A check can't be made here; the message names what is missing."""


def mib(size: int) -> str:
    """Return a size for a message."""
    return f"{size / MIB:.0f} MiB" if size >= MIB else f"{size >> 10} KiB"


def require_memory(size: int) -> None:
    """Skip unless the limits of this memory cgroup allow so many bytes more."""
    found = host.memory_limit()
    if found is None:
        return
    limit, left = found
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
    found = host.memory_limit()
    if found is None:
        return Skip(
            "the kernel killed the child, as the host is out of memory: free some, or "
            "pass a smaller --size"
        )
    limit, left = found
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
    """Return the Skip for an error that comes of too few file descriptors, if it does.

    Args:
        error: Raised by a check; what caused it is looked at as well.
    """
    seen: BaseException | None = error
    while seen is not None:
        number = getattr(seen, "errno", None)
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
        seen = seen.__cause__ or seen.__context__
    return None
