"""Mounts of this process's mount namespace, from mountinfo."""

from __future__ import annotations

import os
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
    device: int
    """Of its files, as st_dev of os.stat(), and as maps has it."""


def mounts(kind: bytes = b"") -> list[Mount]:
    """Return the mounts of this process's namespace, by a prefix of the type.

    Args:
        kind: The first letters of the type of the file system.

    Raises:
        OSError: No file descriptor is free.
    """
    try:
        return parse_mounts(read("/proc/self/mountinfo"), kind)
    except own(FileNotFoundError, PermissionError):  # no /proc
        return []


def parse_mounts(text: bytes, kind: bytes = b"") -> list[Mount]:
    """Return the lines of a mountinfo, by a prefix of the type."""
    found: list[Mount] = []
    for line in lines(text):
        if b" - " + kind not in line:
            continue
        before, _, after = line.partition(b" - ")
        left, right = before.split(b" "), after.split(b" ")
        if len(left) > 4 and len(right) > 2:
            root, point, options = unescape(left[3]), unescape(left[4]), right[-1]
            found.append(
                Mount(root, point, right[0], options.split(b","), _device(left[2]))
            )
    return found


def _device(field: bytes) -> int:
    major, _, minor = field.partition(b":")
    if not (major.isdigit() and minor.isdigit()):
        return 0
    return os.makedev(int(major), int(minor))


_IN_MEMORY = (b"tmpfs", b"devtmpfs", b"ramfs", b"rootfs", b"hugetlbfs")


def is_on_disk(mount: Mount) -> bool:
    """Return whether its files are read from elsewhere, and not from a program.

    What is read of a file that lives in memory may be allocated for it; a program that
    serves files (FUSE) may never answer.
    """
    return mount.kind not in _IN_MEMORY and not mount.kind.startswith(b"fuse")
