"""Members of a cgroup, of a tree or of the host: each a process by its own handle.

Processes that are there and can't be reached are left out; then a set of the caller's
gets the reason.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator

from pmadvise import _reasons
from pmadvise._handle.identity import Identity
from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
from pmadvise._proc.cgroup_tree import CgroupWalk
from pmadvise._proc.files import Stat, exists, read, read_in

_AT_ONCE = 8
"""Processes that one look at a cgroup proves to be in it: each has two descriptors."""


def members_of_host(left_out: set[str]) -> Iterator[Identity]:
    """Open the processes in /proc."""
    return _opened(_listed(left_out), left_out)


def members_of_cgroup(top: Descriptor, left_out: set[str]) -> Iterator[Identity]:
    """Open the processes of a cgroup, which is taken over, and of those below it."""
    listed = {0}  # of a pid namespace that is not seen here
    walk = CgroupWalk(top.fd)
    try:
        for fd in walk:
            pids = dict.fromkeys(walk.pids(fd))
            if 0 in pids:
                left_out.add(str(_reasons.foreign()))
            fresh = [pid for pid in pids if pid not in listed]
            listed.update(fresh)
            for start in range(0, len(fresh), _AT_ONCE):
                part = fresh[start : start + _AT_ONCE]
                for identity in _still_in(walk, fd, part, left_out):
                    since = time.monotonic()
                    yield identity
                    walk.latest += time.monotonic() - since
    finally:
        top.close()
    if walk.left_out:
        left_out.add(f"of the cgroups below it {walk.left_out}")


def _still_in(
    walk: CgroupWalk, fd: int, pids: list[int], left_out: set[str]
) -> Iterator[Identity]:
    """Open processes that are in an open cgroup when their handles are open."""
    try:
        opened = [*_opened(pids, left_out)]
    except own(OSError):
        if len(pids) == 1:
            raise
        # Too few descriptors for all: the caller may close each before the next.
        for pid in pids:
            yield from _still_in(walk, fd, [pid], left_out)
        return
    try:
        texts = {identity: _cgroups_of(identity) for identity in opened}
        present = {*walk.pids(fd)}
        while opened:
            identity = opened.pop(0)
            # It may have been moved since, while the caller had those before it.
            is_unmoved = _cgroups_of(identity) == texts[identity] is not None
            if identity.pid in present and is_unmoved:
                yield identity
            else:
                identity.close()
    finally:
        for identity in opened:
            identity.close()


def _cgroups_of(identity: Identity) -> bytes | None:
    """Return the text of /proc/PID/cgroup; None if the process has gone."""
    try:
        return read_in(identity.proc, "cgroup")
    except own(FileNotFoundError, ProcessLookupError):
        return None


def members_of_tree(root: Identity, left_out: set[str]) -> Iterator[Identity]:
    """Find a process and its descendants now; open each when it is asked for.

    Args:
        root: Taken over.
        left_out: Gets the reasons.
    """
    children: dict[int, list[int]] = {}
    for pid in _listed(left_out):
        if (stat := _stat(pid, left_out)) is not None:
            children.setdefault(stat.parent, []).append(pid)
    try:
        starts = {root.number: root.stat().start_ticks}
    finally:
        root.close()
    family = [*starts]
    for parent in family:
        for child in _opened(children.get(parent, ()), left_out):
            try:
                stat, still = child.stat(), _stat(parent, left_out)
            except own(ProcessLookupError):
                continue
            finally:
                child.close()
            # The ID and the start time name a process for ever: it is the same parent.
            is_same = still is not None and still.start_ticks == starts[parent]
            if is_same and stat.parent == parent:
                starts[child.number] = stat.start_ticks
                family.append(child.number)
    return _opened_again(starts, left_out)


def _opened_again(starts: dict[int, int], left_out: set[str]) -> Iterator[Identity]:
    """Open the processes of these IDs and start times."""
    for identity in _opened(starts, left_out):
        try:
            is_same = identity.stat().start_ticks == starts[identity.number]
        except own(ProcessLookupError):
            is_same = False
        if is_same:
            yield identity
        else:
            identity.close()


def _stat(pid: int, left_out: set[str]) -> Stat | None:
    """Return the stat of a process, None if it exits meanwhile or is hidden."""
    try:
        return Stat(read(f"/proc/{pid}/stat"))
    except own(FileNotFoundError, ProcessLookupError):
        return None
    except own(PermissionError):
        left_out.add(str(_reasons.hidden()))
        return None


def _listed(left_out: set[str]) -> Iterator[int]:
    """Yield the process IDs in /proc."""
    if not exists("/proc/1"):  # every pid namespace has it
        left_out.add(str(_reasons.hidden()))
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _opened(pids: Iterable[int], left_out: set[str]) -> Iterator[Identity]:
    """Open processes, but for those that have gone or that have no memory."""
    for pid in pids:
        try:
            identity = Identity.open(pid)
        except own(ProcessLookupError):
            continue
        except own(OSError) as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # a thread has the ID now
                continue
            raise
        if identity.is_hidden:
            if not identity.has_ended():
                left_out.add(str(_reasons.hidden()))
        elif identity.why_no_mm() is None:
            yield identity
            continue
        identity.close()
