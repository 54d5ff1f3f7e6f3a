"""Mounts of this process's mount namespace, from mountinfo."""

from __future__ import annotations

from typing import NamedTuple

from pmadvise._origin import own
from pmadvise._proc.files import lines, read, unescape


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo; proc_pid_mountinfo(5)."""

    root: bytes
    """The mounted directory of the file system."""
    point: bytes
    kind: bytes
    """The type of the file system."""
    options: list[bytes]
    """Of the superblock."""


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
    except own(FileNotFoundError, PermissionError):  # no /proc
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
