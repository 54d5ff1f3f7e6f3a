"""Facts of the host and of this process, from /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pmadvise._proc.cgroups import Membership, directories, hierarchies, own_memberships
from pmadvise._proc.files import (
    Stat,
    lines,
    parse_kb_fields,
    parse_stat,
    read_int,
    read_or_none,
)
from pmadvise._reasons import YES, Answer, low_priority

_THP = "/sys/kernel/mm/transparent_hugepage"
_PATIENT_POLICIES = {3: "SCHED_BATCH", 5: "SCHED_IDLE"}  # include/uapi/linux/sched.h
_NO_LIMIT = 1 << 60
"""More bytes than any machine has: what version 1 shows where there is no limit."""


def container() -> str:
    """Return what manages the container that this runs in; "" where none is seen."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    named = os.environ.get("container")  # noqa: SIM112, as systemd and podman set it
    named = named or os.fsdecode(read_or_none("/run/systemd/container") or b"")
    if named:
        return named.strip()
    for path, name in (("/run/.containerenv", "podman"), ("/.dockerenv", "docker")):
        if os.path.exists(path):
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


def huge_page_size() -> int | None:
    """Return the bytes of a transparent huge page; None without them."""
    return read_int(f"{_THP}/hpage_pmd_size")


def huge_pages_enabled() -> bool:
    """Return whether the kernel is set to make transparent huge pages at all."""
    return b"[never]" not in (read_or_none(f"{_THP}/enabled") or b"")


def swap() -> tuple[int, int]:
    """Return the bytes of swap in all, and free."""
    found = parse_kb_fields(read_or_none("/proc/meminfo"))
    return found.get("SwapTotal", 0), found.get("SwapFree", 0)


def freezers() -> tuple[str, ...]:
    """Return the hierarchies that can freeze, and that may be written to."""
    found = [
        f"cgroup{membership.version}"
        for membership in own_memberships()
        if membership.can_freeze
        and any(
            os.access(path, os.W_OK, effective_ids=True)
            for path in (*directories(membership), *_mounts_of(membership))
        )
    ]
    return tuple(dict.fromkeys(found))


def freezer_directories() -> list[tuple[int, str]]:
    """Return version and directory of this process's cgroups that can freeze."""
    found = []
    for membership in own_memberships():
        if membership.can_freeze:
            below = [*directories(membership), *_mounts_of(membership)]
            found += [(membership.version, os.fsdecode(one)) for one in below[:1]]
    return found


def _mounts_of(membership: Membership) -> Iterator[bytes]:
    """Yield the mounts of a cgroup's hierarchy."""
    for hierarchy in hierarchies():
        if hierarchy.version == membership.version and (
            hierarchy.version == 2
            or not set(hierarchy.controllers).isdisjoint(membership.controllers)
        ):
            yield hierarchy.mount


def _with_ancestors(controller: bytes) -> Iterator[tuple[int, str]]:
    """Yield version and directory of this process's cgroups, the innermost first.

    Args:
        controller: Of version 1, whose hierarchy is meant.
    """
    for membership in own_memberships():
        if membership.version == 1 and controller not in membership.controllers:
            continue
        mounts = list(_mounts_of(membership))
        for directory in directories(membership):
            path = directory
            while any(path == mount or _is_below(path, mount) for mount in mounts):
                yield membership.version, os.fsdecode(path)
                path = os.path.dirname(path)


def _is_below(path: bytes, mount: bytes) -> bool:
    return path.startswith(mount.rstrip(b"/") + b"/")


def swap_allowed() -> int | None:
    """Return the bytes that this cgroup may still swap; None without a limit."""
    allowed = []
    for version, path in _with_ancestors(b"memory"):
        if version == 2:
            most = read_int(f"{path}/memory.swap.max")
            used = read_int(f"{path}/memory.swap.current") or 0
            if most is not None:
                allowed.append(max(most - used, 0))
    return min(allowed, default=None)


def memory_limit() -> tuple[int, int] | None:
    """Return the tightest memory limit of this cgroup, and what is left below it.

    Returns:
        Bytes of the limit; bytes that may still be used, the page cache being
        reclaimed. None without a limit.
    """
    found = []
    for version, path in _with_ancestors(b"memory"):
        v2 = version == 2
        limit = read_int(
            f"{path}/memory.max" if v2 else f"{path}/memory.limit_in_bytes"
        )
        if limit is None or limit >= _NO_LIMIT:
            continue
        keys = (b"anon", b"shmem") if v2 else (b"total_rss", b"total_shmem")
        words = [line.split() for line in lines(read_or_none(f"{path}/memory.stat"))]
        used = sum(int(word[1]) for word in words if word[0] in keys)
        found.append((max(limit - used, 0), limit))
    if not found:
        return None
    left, limit = min(found)
    return limit, left


def ptrace_scope() -> int | None:
    """Return Yama's ptrace_scope; None without Yama."""
    return read_int("/proc/sys/kernel/yama/ptrace_scope")


def nice() -> int:
    """Return the nice value of this thread; 0 where it is not known."""
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
    return None if text is None else parse_stat(text)
