"""Reasons why a cgroup can't be reclaimed from: its file is missing, or another's."""

from __future__ import annotations

import errno
import os

from pmadvise._reasons.answer import Answer, refusal


def no_reclaim(directory: int, number: int) -> Answer:
    """Return the answer to an errno of memory.reclaim.

    Args:
        directory: File descriptor of the directory of the cgroup.
        number: The kernel's errno.
    """
    if number == errno.ENODEV or (
        number == errno.ENOENT and not _has(directory, "cgroup.procs")
    ):
        return refusal("cgroup", errno.ENODEV, "the cgroup has been removed")
    if number in (errno.EACCES, errno.EPERM):
        return refusal(
            "cgroup",
            number,
            "only its owner may write to the cgroup's memory.reclaim",
            "run as its owner or as root, or have the cgroup delegated (systemd: "
            "Delegate=yes in a unit with User=)",
        )
    if number == errno.EROFS:
        return refusal(
            "cgroup",
            number,
            "the cgroup file system is mounted read-only, as in most containers",
            "mount it writable (docker run --privileged; "
            "podman run --security-opt unmask=/sys/fs/cgroup)",
        )
    if number == errno.ENOENT:
        return _no_file(directory)
    return refusal("kernel", number, "memory.reclaim does not work")


def _no_file(directory: int) -> Answer:
    if not _has(directory, "cgroup.controllers"):
        return refusal(
            "cgroup",
            errno.ENOENT,
            "the cgroup is of version 1, which has no memory.reclaim",
            "boot with version 2 (systemd.unified_cgroup_hierarchy=1), or page the "
            "memory of its processes out",
        )
    if not _has(directory, "memory.stat"):
        return refusal(
            "cgroup",
            errno.ENOENT,
            "the memory controller is not enabled for the cgroup",
            "write +memory to cgroup.subtree_control of each cgroup above it (systemd: "
            "MemoryAccounting=yes); where cgroups of version 1 have the controller, "
            "boot with version 2 alone",
        )
    return refusal(
        "kernel",
        errno.ENOENT,
        "the kernel is too old to have memory.reclaim",
        "Linux 5.19 or newer is needed",
    )


def no_swappiness(swappiness: object) -> Answer:
    """Return the answer to EINVAL for a request with a swappiness."""
    return refusal(
        "kernel",
        errno.EINVAL,
        f"the kernel does not know swappiness={swappiness} of memory.reclaim, and has "
        "reclaimed nothing",
        'Linux 6.9 or newer is needed, 6.16 for "max"',
    )


def _has(directory: int, name: str) -> bool:
    return os.access(name, os.F_OK, dir_fd=directory)
