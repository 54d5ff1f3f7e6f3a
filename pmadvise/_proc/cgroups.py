"""Cgroups: the search, listing and queries, in both versions of the interface."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from pmadvise._proc.files import lines, read, read_in

_LEAF_LINKS = 2
"""Links of a directory without subdirectories, "." and its name: kernfs counts them."""

_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo; proc_pid_mountinfo(5)."""

    root: bytes
    """The mounted directory of the file system."""
    point: bytes
    kind: bytes
    """The type of the file system."""
    options: list[bytes]
    """Of the superblock."""


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

    def directory_of(self, path: bytes) -> bytes | None:
        """Return the directory of a cgroup; None if it lies outside the mount."""
        if self.root == b"/":
            below = path
        elif path == self.root or path.startswith(self.root + b"/"):
            below = path[len(self.root) :]
        else:
            return None
        if b"/../" in below + b"/":  # above the root of a cgroup namespace
            return None
        return self.mount.rstrip(b"/") + below.rstrip(b"/") or b"/"


class Membership(NamedTuple):
    """A line of /proc/PID/cgroup."""

    version: int
    controllers: tuple[bytes, ...]
    path: bytes

    @property
    def can_freeze(self) -> bool:
        """Whether its hierarchy has a freezer."""
        return self.version == 2 or b"freezer" in self.controllers


class Cgroup(NamedTuple):
    """A cgroup, by its directory and by its path in /proc/PID/cgroup."""

    directory: bytes
    version: int
    controllers: tuple[bytes, ...]
    path: bytes

    def has(self, proc: int) -> bool:
        """Return whether a process is in this cgroup or in one below it."""
        below = self.path.rstrip(b"/") + b"/"
        return any(
            membership.version == self.version
            and (
                self.version == 2 or set(membership.controllers) & set(self.controllers)
            )
            and (membership.path == self.path or membership.path.startswith(below))
            for membership in memberships(proc)
        )


def find_cgroup(path: bytes) -> Cgroup:
    """Return a cgroup by its directory, or by its path in /proc/PID/cgroup.

    Raises:
        FileNotFoundError: There is none.
        OSError: No file descriptor is free.
    """
    for hierarchy in hierarchies():
        # symbolic links lead to some mount points: cpu, cpuacct
        below = os.path.relpath(os.path.realpath(path), hierarchy.mount)
        if below != b".." and not below.startswith(b"../"):
            inner = os.path.normpath(os.path.join(hierarchy.root, below))
            directory = os.path.realpath(path)
        else:
            inner = os.path.normpath(path)
            directory = hierarchy.directory_of(path) or b""
        if directory and os.path.exists(os.path.join(directory, b"cgroup.procs")):
            return Cgroup(directory, hierarchy.version, hierarchy.controllers, inner)
    raise FileNotFoundError(
        errno.ENOENT,
        f"there is no cgroup {os.fsdecode(path)!r} here: give its directory",
    )


def hierarchies() -> list[Hierarchy]:
    """Return the mounted hierarchies, v2 first."""
    mounted = [
        Hierarchy(
            2 if mount.kind == b"cgroup2" else 1,
            () if mount.kind == b"cgroup2" else tuple(mount.options),
            mount.point,
            mount.root,
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


def memory_path(text: bytes) -> bytes | None:
    """Return the path in /proc/PID/cgroup, in the memory controller's hierarchy.

    None if the file has neither this hierarchy of version 1 nor version 2.
    """
    memberships = parse_memberships(text)
    for membership in memberships:
        if b"memory" in membership.controllers:
            return membership.path
    return memberships[0].path if memberships and memberships[0].version == 2 else None


def own_memberships() -> list[Membership]:
    """Return the cgroups of this process."""
    try:
        return parse_memberships(read("/proc/self/cgroup"))
    except OSError:
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
    membership: Membership, mounted: list[Hierarchy] | None = None
) -> Iterator[bytes]:
    """Yield the directories of a cgroup, by the mounts of its hierarchy."""
    for hierarchy in hierarchies_of(membership, mounted):
        directory = hierarchy.directory_of(membership.path)
        if directory is not None:
            yield directory


def is_frozen(proc: int, versions: tuple[int, ...] = (2, 1)) -> bool:
    """Return whether a cgroup of a process, or an ancestor of one, is frozen.

    Args:
        proc: File descriptor of the directory /proc/PID.
        versions: The versions of the cgroup interface to consider.
    """
    mounted = hierarchies()
    for membership in memberships(proc):
        if membership.version not in versions or not membership.can_freeze:
            continue
        names = VERSIONS[membership.version]
        for directory in directories(membership, mounted):
            state = f"{os.fsdecode(directory)}/{names.state}"
            try:
                if names.is_frozen in lines(read(state)):
                    return True
            except OSError:  # the root cgroup lacks this file
                continue
    return False


def processes_in(fd: int) -> Iterator[int]:
    """Yield the IDs of the processes in an open cgroup and in its descendants."""
    yield from map(int, lines(read_in(fd, "cgroup.procs")))
    if os.fstat(fd).st_nlink == _LEAF_LINKS:
        return
    for path, _, _, directory in os.fwalk(".", dir_fd=fd, onerror=_unless_removed):
        try:
            if path != ".":
                yield from map(int, lines(read_in(directory, "cgroup.procs")))
        except OSError as error:
            # The processes of a threaded cgroup are listed in an ancestor.
            if error.errno != errno.EOPNOTSUPP:
                _unless_removed(error)


def _unless_removed(error: OSError) -> None:
    if error.errno not in (errno.ENODEV, errno.ENOENT):
        raise error


def mounts(kind: bytes = b"") -> list[Mount]:
    """Return the mounts of this process's namespace, by a prefix of the type.

    Args:
        kind: The first letters of the type of the file system.

    Raises:
        OSError: No file descriptor is free.
    """
    visible: list[Mount] = []
    try:
        text = read("/proc/self/mountinfo")
    except (FileNotFoundError, PermissionError):  # no /proc
        return visible
    for line in lines(text):
        if b" - " + kind not in line:
            continue
        before, _, after = line.partition(b" - ")
        left, right = before.split(b" "), after.split(b" ")
        if len(left) > 4 and len(right) > 2:
            root, point = unescape(left[3]), unescape(left[4])
            visible.append(Mount(root, point, right[0], right[-1].split(b",")))
    return visible


def unescape(field: bytes) -> bytes:
    """Undo the kernel's octal escapes in a field of mountinfo."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)
