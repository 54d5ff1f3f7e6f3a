"""Facts of the host and of this process, from /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
from pmadvise._proc.cgroups import (
    Membership,
    directories,
    hierarchies,
    hierarchies_of,
    of_memory,
    own_memberships,
)
from pmadvise._proc.files import (
    Stat,
    exists,
    huge_page_size,
    lines,
    read_int,
    read_or_none,
)
from pmadvise._proc.rights import initial_namespace
from pmadvise._reasons import (
    YES,
    Answer,
    hidden,
    low_priority,
    no_cgroup,
    no_pressure,
    no_proc,
)
from pmadvise._reasons.reclaim import no_reclaim

__all__ = [
    "container",
    "freezer_directories",
    "freezers",
    "huge_page_size",
    "huge_pages_enabled",
    "may_reclaim",
    "memory_limit",
    "nice",
    "own_cgroup",
    "pressure",
    "priority",
    "ptrace_scope",
    "swap_allowed",
]

_THP_ENABLED = "/sys/kernel/mm/transparent_hugepage/enabled"
_PATIENT_POLICIES = {3: "SCHED_BATCH", 5: "SCHED_IDLE"}  # include/uapi/linux/sched.h
_NO_LIMIT = 1 << 60
"""More bytes than any machine has: without a limit version 1 reports more."""


class _MemoryNames(NamedTuple):
    """The memory controller's names in a version of the cgroup interface."""

    limit: str
    """A file."""
    used: tuple[bytes, ...]
    """Lines of memory.stat: memory besides page cache, of descendants too."""


_V2_MEMORY = _MemoryNames("memory.max", (b"anon", b"shmem"))
_V1_MEMORY = _MemoryNames("memory.limit_in_bytes", (b"total_rss", b"total_shmem"))


def container() -> str:
    """Return the manager of the container of this process; "" if none is found."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    named = os.environ.get("container")  # noqa: SIM112, as systemd and podman set it
    named = named or os.fsdecode(read_or_none("/run/systemd/container") or b"")
    if named:
        return named.strip()
    for path, name in (("/run/.containerenv", "podman"), ("/.dockerenv", "docker")):
        if exists(path):
            return name
    paths = [membership.path for membership in own_memberships()]
    for part, name in (
        (b"kubepods", "kubernetes"),
        (b"libpod", "podman"),
        (b"docker", "docker"),
        (b"lxc", "lxc"),
    ):
        if any(part in path for path in paths):
            return name
    return ""


def huge_pages_enabled() -> bool:
    """Return whether transparent huge pages are enabled at all."""
    return b"[never]" not in (read_or_none(_THP_ENABLED) or b"")


def freezers() -> tuple[str, ...]:
    """Return the writable hierarchies of this process's cgroups with a freezer."""
    names = [
        f"cgroup{membership.version}"
        for membership in own_memberships()
        if membership.can_freeze
        and any(
            os.access(path, os.W_OK, effective_ids=True)
            for path in _directories_of(membership)
        )
    ]
    return tuple(dict.fromkeys(names))


def freezer_directories() -> list[tuple[int, str]]:
    """Return version and directory of this process's cgroups with a freezer."""
    return [
        (membership.version, os.fsdecode(path))
        for membership in own_memberships()
        if membership.can_freeze
        for path in _directories_of(membership)[:1]
    ]


def _directories_of(membership: Membership) -> list[bytes]:
    """Return the directory of a cgroup, and the mount points of its hierarchy."""
    mounts = [hierarchy.mount for hierarchy in hierarchies_of(membership)]
    return [*directories(membership, os.getpid()), *mounts]


def _with_ancestors(controller: bytes) -> Iterator[tuple[int, str]]:
    """Yield version and directory of this process's cgroups, the innermost first.

    Args:
        controller: The controller of the hierarchy in version 1.
    """
    for membership in own_memberships():
        if membership.version == 1 and controller not in membership.controllers:
            continue
        for hierarchy in hierarchies_of(membership):
            top = hierarchy.directory_of(hierarchy.root)
            path = next(directories(membership, os.getpid(), [hierarchy]), None)
            while path is not None:
                yield membership.version, os.fsdecode(path)
                above = os.path.dirname(path)
                # The parent of "///" is "///": a fake /proc may have any path.
                path = None if path in (top, above) else above


def own_cgroup() -> Answer:
    """Return whether the cgroup that limits the memory of this process can be seen."""
    membership = of_memory(own_memberships())
    if membership is None:
        return YES if no_proc() is None else hidden()
    if membership.path == b"/" and initial_namespace("cgroup"):
        return YES  # the root, which has no limit
    mounted = hierarchies()
    for path in directories(membership, os.getpid(), mounted):
        if exists(os.path.join(path, b"cgroup.procs")):
            return YES
    return no_cgroup(membership.path, bool(hierarchies_of(membership, mounted)))


def may_reclaim(memberships: list[Membership], pid: int) -> Answer:
    """Return whether reclaim() may be used for the cgroup of a process.

    Args:
        memberships: Of the process.
        pid: Its ID.
    """
    for membership in memberships:
        if membership.version == 2:
            for path in directories(membership, pid):
                return _may_write(path)
            return no_cgroup(membership.path, bool(hierarchies_of(membership)))
    return no_cgroup(b"/", is_mounted=False)


def _may_write(path: bytes) -> Answer:
    directory = Descriptor()
    try:
        directory = Descriptor.open(path, flags=os.O_PATH | os.O_DIRECTORY)
        Descriptor.open("memory.reclaim", directory.fd, os.O_WRONLY).close()
    except own(OSError) as error:
        return no_reclaim(directory.fd, error.errno or 0)
    finally:
        directory.close()
    return YES


_PRESSURE = "/proc/pressure/memory"


def pressure() -> Answer:
    """Return whether the host's pressure file can be opened for a trigger."""
    try:
        Descriptor.open(_PRESSURE, flags=os.O_RDWR | os.O_NONBLOCK).close()
    except own(OSError) as error:
        return no_pressure(_PRESSURE, error.errno or 0)
    return YES


def swap_allowed() -> int | None:
    """Return the bytes that this cgroup may still swap; None without a limit.

    Version 1 limits memory and swap together, which swapping does not change.
    """
    allowed = []
    for _, path in _with_ancestors(b"memory"):
        limit = read_int(f"{path}/memory.swap.max")
        used = read_int(f"{path}/memory.swap.current") or 0
        if limit is not None:
            allowed.append(max(limit - used, 0))
    return min(allowed, default=None)


def memory_limit() -> tuple[int, int] | None:
    """Return the tightest memory limit of this cgroup, and the bytes left below it.

    Returns:
        Bytes of the limit; bytes that may still be used after the page cache was
        reclaimed. None without a limit.
    """
    limits = []
    for version, path in _with_ancestors(b"memory"):
        names = _V1_MEMORY if version == 1 else _V2_MEMORY
        limit = read_int(f"{path}/{names.limit}")
        if limit is None or limit >= _NO_LIMIT:
            continue
        words = [line.split() for line in lines(read_or_none(f"{path}/memory.stat"))]
        used = sum(int(word[1]) for word in words if word[0] in names.used)
        limits.append((max(limit - used, 0), limit))
    if not limits:
        return None
    left, limit = min(limits)
    return limit, left


def ptrace_scope() -> int | None:
    """Return Yama's ptrace_scope; None without Yama."""
    return read_int("/proc/sys/kernel/yama/ptrace_scope")


def nice() -> int:
    """Return the nice value of this thread; 0 if unknown."""
    stat = _own_stat()
    return stat.nice if stat is not None else 0


def priority() -> Answer:
    """Return whether this thread gets a CPU soon enough to keep max_stall."""
    stat = _own_stat()
    if stat is None:
        return YES
    if stat.policy in _PATIENT_POLICIES:
        return low_priority(f"with {_PATIENT_POLICIES[stat.policy]}")
    return low_priority(f"at nice {stat.nice}") if stat.nice > 0 else YES


def _own_stat() -> Stat | None:
    text = read_or_none("/proc/thread-self/stat")
    return None if text is None else Stat(text)
