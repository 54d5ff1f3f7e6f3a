"""Read files of /proc and /sys as bytes, and cut them into lines and fields.

The kernel ends lines with a newline and escapes newlines in names. It does not escape
anything else that a name may hold (a process, file, memfd, cgroup or mount point is
named by its owner), so text is cut at the newline and at no other character.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pmadvise._native.read import read_file

_KB = re.compile(rb"([0-9]+) kB")
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


def read_in(directory: int, name: str) -> bytes:
    """Return the contents of a file of an open directory."""
    return read_file(name, directory)


def read(path: str) -> bytes:
    """Return the contents of a file; raise OSError if it can't be read."""
    return read_file(path)


def read_or_none(path: str) -> bytes | None:
    """Return the contents of a file, None if it can't be read."""
    try:
        return read(path)
    except OSError:
        return None


def read_int(path: str) -> int | None:
    """Return the number that a file of /proc or /sys holds, None if it has none."""
    text = (read_or_none(path) or b"").strip()
    return int(text) if text.isdigit() else None


def lines(text: bytes | None) -> list[bytes]:
    """Return the lines of a text, cut at the newline alone."""
    found = (text or b"").split(b"\n")
    return found if found[-1] else found[:-1]


def fields(text: bytes | None) -> dict[str, bytes]:
    """Return the lines "Name: value" of a text; of equal names the first."""
    found: dict[str, bytes] = {}
    for line in lines(text):
        name, colon, value = line.partition(b":")
        if colon:
            found.setdefault(name.decode("ascii", "replace"), value.strip(b" \t"))
    return found


def parse_kb_fields(text: bytes | None) -> dict[str, int]:
    """Return the lines "Name: number kB" of a text, in bytes."""
    return {
        name: int(match[1]) * 1024
        for name, value in fields(text).items()
        if (match := _KB.fullmatch(value))
    }


class Stat(NamedTuple):
    """Some fields of /proc/PID/stat, which anybody may read; proc_pid_stat(5)."""

    pid: int
    state: str
    parent: int
    flags: int
    major_faults: int
    user_ticks: int
    system_ticks: int
    threads: int
    start_ticks: int
    """Since boot."""
    nice: int
    policy: int
    """SCHED_* of sched(7)."""


def parse_stat(text: bytes) -> Stat:
    """Parse /proc/PID/stat; the name, which may hold anything, ends at the last ")"."""
    pid, _, _ = text.partition(b" ")
    rest = text[text.rindex(b")") + 1 :].split()
    return Stat(
        int(pid),
        rest[0].decode("ascii", "replace"),
        *(int(rest[number - 3]) for number in (4, 9, 12, 14, 15, 20, 22, 19, 41)),
    )


def read_stat(proc: int) -> Stat:
    """Return the fields of stat of an open directory /proc/PID."""
    return parse_stat(read_in(proc, "stat"))


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
