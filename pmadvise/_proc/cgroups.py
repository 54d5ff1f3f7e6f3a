"""Cgroups: the search, listing and queries, in both versions of the interface."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
from pmadvise._proc.cgroup_tree import PATH_CUT, CgroupWalk, pids_in
from pmadvise._proc.files import exists, lines, read, read_in
from pmadvise._proc.mounts import mounts
from pmadvise._proc.rights import initial_namespace


class Version(NamedTuple):
    """The freezer's names in a version of the cgroup interface."""

    control: str
    """The file to write to."""
    thaw: bytes
    freeze: bytes
    own: str
    """The file with the requested state."""
    state: str
    """The file with the present state."""
    is_frozen: bytes
    """A line of `state`."""
    threads: str


# Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/freezer-subsystem.rst
VERSIONS = {
    2: Version(
        control="cgroup.freeze",
        thaw=b"0",
        freeze=b"1",
        own="cgroup.freeze",
        state="cgroup.events",
        is_frozen=b"frozen 1",
        threads="cgroup.threads",
    ),
    1: Version(
        control="freezer.state",
        thaw=b"THAWED",
        freeze=b"FROZEN",
        own="freezer.self_freezing",
        state="freezer.state",
        is_frozen=b"FROZEN",
        threads="tasks",
    ),
}


class Hierarchy(NamedTuple):
    """A mounted hierarchy of cgroups."""

    version: int
    controllers: tuple[bytes, ...]
    """Of v1, together with mount options; empty for v2."""
    mount: bytes
    root: bytes
    """The cgroup that is mounted at `mount`."""
    device: int = 0
    """Of its files: other files may be mounted over it."""

    def directory_of(self, path: bytes) -> bytes | None:
        """Return the directory of a cgroup; None if the mount does not show it.

        Both paths are as this process's cgroup namespace shows them: each /.. at the
        beginning is a level above the root of the namespace.
        """
        names, root = _names(path), _names(self.root)
        below = names[len(root) :]
        if not path.startswith(b"/") or names[: len(root)] != root or b".." in below:
            return None
        return b"/".join([self.mount.rstrip(b"/"), *below]) or b"/"

    def unnamed_of(self, path: bytes) -> tuple[int, list[bytes]]:
        """Return the levels between mount and path that have no name here.

        Returns:
            The number of levels, not more than 0 if the path is not below the mount;
            and the names below them.
        """
        names, root = _names(path), _names(self.root)
        above = root.count(b"..")
        up = names.count(b"..")
        return above - up - (len(root) - above), names[up:]


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]


class Membership(NamedTuple):
    """A line of /proc/PID/cgroup."""

    version: int
    controllers: tuple[bytes, ...]
    path: bytes

    @property
    def can_freeze(self) -> bool:
        """Whether its hierarchy has a freezer."""
        return self.version == 2 or b"freezer" in self.controllers


def open_cgroup(path: bytes) -> Descriptor:
    """Open a cgroup by its directory, or by its path in /proc/PID/cgroup.

    Raises:
        ValueError: The path is empty, or has a null byte.
        FileNotFoundError: There is none.
        OSError: It is threaded, may not be read, or no file descriptor is free.
    """
    name = os.fsdecode(path)
    if not path or b"\0" in path:
        raise ValueError(f"cgroup {name!r} is not a path: give its directory")
    mounted = hierarchies()
    devices = [mount.device for mount in mounted]
    for directory in (path, *(mount.directory_of(path) for mount in mounted)):
        if directory is None:
            continue
        try:
            cgroup = Descriptor.open(directory, flags=os.O_PATH | os.O_DIRECTORY)
            if os.fstat(cgroup.fd).st_dev in devices:
                pids_in(cgroup.fd)
                return cgroup
        except own(OSError) as error:
            if error.errno not in (*_NO_DIRECTORY, errno.ENODEV):
                raise OSError(error.errno, _why_closed(name, error)) from None
    raise FileNotFoundError(
        errno.ENOENT,
        f"there is no cgroup {name!r} here: give its directory, in a mounted cgroup "
        "file system",
    )


_NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def _why_closed(name: str, error: OSError) -> str:
    if error.errno == errno.EOPNOTSUPP:
        return (
            f"cgroup {name!r} is threaded, so its processes are listed above it: give "
            "the next cgroup above whose cgroup.type is not threaded"
        )
    return f"cgroup {name!r} can't be read: {error.strerror}"


def hierarchies() -> list[Hierarchy]:
    """Return the mounted hierarchies, v2 first."""
    mounted = [
        Hierarchy(
            2 if mount.kind == b"cgroup2" else 1,
            () if mount.kind == b"cgroup2" else tuple(mount.options),
            mount.point,
            mount.root,
            mount.device,
        )
        for mount in mounts(b"cgroup")
        if mount.kind in (b"cgroup", b"cgroup2")
    ]
    return sorted(mounted, key=lambda hierarchy: -hierarchy.version)


def parse_memberships(text: bytes) -> list[Membership]:
    """Return the lines of /proc/PID/cgroup, v2 first."""
    parsed: list[Membership] = []
    for line in lines(text):
        number, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if number == b"0":
            parsed.insert(0, Membership(2, (), path))
        elif path:
            parsed.append(Membership(1, tuple(controllers.split(b",")), path))
    return parsed


def memberships(proc: int) -> list[Membership]:
    """Return the cgroups of a process, by its open directory /proc/PID."""
    return parse_memberships(read_in(proc, "cgroup"))


def of_memory(memberships: list[Membership]) -> Membership | None:
    """Return the membership in the memory controller's hierarchy: that of v1, or v2."""
    for membership in memberships:
        if b"memory" in membership.controllers:
            return membership
    return memberships[0] if memberships and memberships[0].version == 2 else None


def memory_path(text: bytes) -> bytes | None:
    """Return the path in /proc/PID/cgroup, in the memory controller's hierarchy.

    None if the file has neither this hierarchy of version 1 nor version 2.
    """
    membership = of_memory(parse_memberships(text))
    return None if membership is None else membership.path


def own_memberships() -> list[Membership]:
    """Return the cgroups of this process; none if they are hidden."""
    try:
        return parse_memberships(read("/proc/self/cgroup"))
    except own(OSError):
        return []


def hierarchies_of(
    membership: Membership, mounted: list[Hierarchy] | None = None
) -> list[Hierarchy]:
    """Return the mounts of the hierarchy of a cgroup.

    Args:
        membership: The cgroup.
        mounted: The result of hierarchies(), to read it once for several cgroups.
    """
    return [
        hierarchy
        for hierarchy in (hierarchies() if mounted is None else mounted)
        if hierarchy.version == membership.version
        and (
            hierarchy.version != 1
            or set(hierarchy.controllers) & set(membership.controllers)
        )
    ]


def directories(
    membership: Membership, pid: int, mounted: list[Hierarchy] | None = None
) -> Iterator[bytes]:
    """Yield the directories of a process's cgroup, by the mounts of its hierarchy.

    From another cgroup namespace the path does not name the directories above it that
    both namespaces do not share: these are searched, and the process shows which one
    it is.

    Args:
        membership: The cgroup.
        pid: The process ID.
        mounted: The result of hierarchies(), to read it once for several cgroups.
    """
    if len(membership.path) >= PATH_CUT:
        return
    for hierarchy in hierarchies_of(membership, mounted):
        directory = hierarchy.directory_of(membership.path)
        if directory is not None:
            yield directory
        else:
            yield from _search(hierarchy, membership.path, pid)


_SEARCH = 1.0
"""Seconds: it is for a hold, which is to be quick; 10,000 cgroups take one."""


def _search(hierarchy: Hierarchy, path: bytes, pid: int) -> Iterator[bytes]:
    depth, below = hierarchy.unnamed_of(path)
    if depth <= 0:
        return
    try:
        top = Descriptor.open(hierarchy.mount, flags=os.O_PATH | os.O_DIRECTORY)
    except own(OSError):
        return
    try:
        walk = CgroupWalk(top.fd, _SEARCH, depth)
        for fd in walk:
            if len(walk.path) == depth and _has(fd, below, pid):
                yield b"/".join([hierarchy.mount.rstrip(b"/"), *walk.path, *below])
    finally:
        top.close()


def _has(fd: int, below: list[bytes], pid: int) -> bool:
    """Return whether a process is in a cgroup below an open one."""
    for name in ("cgroup.procs", "cgroup.threads"):  # the latter if it is threaded
        try:
            text = read_in(fd, os.fsdecode(b"/".join([*below, name.encode()])))
        except own(OSError):
            continue
        return b"%d" % pid in lines(text)
    return False


def is_frozen(proc: int, pid: int, versions: tuple[int, ...] = (2, 1)) -> bool | None:
    """Return whether a cgroup of a process, or an ancestor of one, is frozen.

    Args:
        proc: File descriptor of the directory /proc/PID.
        pid: The process ID.
        versions: The versions of the cgroup interface to consider.

    Returns:
        None if that is unknown, as a cgroup has no directory here.
    """
    mounted = hierarchies()
    frozen: bool | None = False
    for membership in memberships(proc):
        if membership.version not in versions or not membership.can_freeze:
            continue
        names = VERSIONS[membership.version]
        is_known = membership.path == b"/" and initial_namespace("cgroup") is True
        for directory in directories(membership, pid, mounted):
            state = f"{os.fsdecode(directory)}/{names.state}"
            try:
                if names.is_frozen in lines(read(state)):
                    return True
                is_known = True
            except own(OSError):  # the root cgroup lacks this file
                is_known = is_known or exists(directory + b"/cgroup.procs")
        if not is_known:
            frozen = None
    return frozen
