"""/proc/self/mountinfo: the mounts that this process sees."""

from __future__ import annotations

import re
from typing import NamedTuple

from pmadvise._proc.files import lines, read

_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo; proc_pid_mountinfo(5)."""

    root: bytes
    """The directory of the file system that is mounted."""
    point: bytes
    kind: bytes
    """The type of the file system."""
    options: list[bytes]
    """Those of the superblock."""


def mounts(kind: bytes = b"") -> list[Mount]:
    """Return the mounts that this process sees, of file systems named `kind`...

    Raises:
        OSError: No file descriptor is free.
    """
    found: list[Mount] = []
    try:
        text = read("/proc/self/mountinfo")
    except (FileNotFoundError, PermissionError):  # no /proc
        return found
    for line in lines(text):
        if b" - " + kind not in line:
            continue
        before, _, after = line.partition(b" - ")
        left, right = before.split(b" "), after.split(b" ")
        if len(left) > 4 and len(right) > 2:
            root, point = unescape(left[3]), unescape(left[4])
            found.append(Mount(root, point, right[0], right[-1].split(b",")))
    return found


def unescape(field: bytes) -> bytes:
    """Undo the kernel's octal escapes in a field of mountinfo."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)
