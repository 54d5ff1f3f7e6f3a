"""Files of /proc and /sys: read as bytes, cut into lines and fields, or polled.

The kernel ends lines with a newline and escapes newlines in names. It escapes no other
character of a name (the owner of a process, file, memfd, cgroup or mount point chooses
its name), so text is cut at the newline and at no other character.
"""

from __future__ import annotations

import math
import os
import select
import time

from pmadvise._native.base import original
from pmadvise._native.read import read_file
from pmadvise._origin import own

_select = original(select)
_POLL_MAX = 1_000_000_000  # ms: poll(2) takes a C int
_FOREVER = 1e9  # s: an int may be too large for a float


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
    except own(OSError):
        return None


def exists(path: str | bytes, follow_symlinks: bool = True) -> bool:
    """Return whether a path can be looked up.

    os.path.exists() would take the OSError of a signal handler for a no.
    """
    try:
        os.stat(path, follow_symlinks=follow_symlinks)
    except own(OSError):
        return False
    return True


def read_int(path: str) -> int | None:
    """Return the number in a file of /proc or /sys, None if it has none."""
    text = (read_or_none(path) or b"").strip()
    return int(text) if text.isdigit() else None


def lines(text: bytes | None) -> list[bytes]:
    """Return the lines of a text, cut only at newlines."""
    parts = (text or b"").split(b"\n")
    return parts if parts[-1] else parts[:-1]


def fields(text: bytes | None) -> dict[str, bytes]:
    """Return the lines "Name: value" of a text; the first of equal names."""
    values: dict[str, bytes] = {}
    for line in lines(text):
        name, colon, value = line.partition(b":")
        if colon:
            values.setdefault(name.decode("ascii", "replace"), value.strip(b" \t"))
    return values


def parse_kb_fields(text: bytes | None) -> dict[str, int]:
    """Return the lines "Name: number kB" of a text, in bytes."""
    return {
        name: int(value[:-3]) * 1024
        for name, value in fields(text).items()
        if value.endswith(b" kB") and value[:-3].isdigit()
    }


def unescape(field: bytes) -> bytes:
    """Undo the kernel's octal escapes in a field of mountinfo or swaps."""
    if b"\\" not in field:
        return field
    import re  # noqa: PLC0415 - slow to import

    octal = rb"\\([0-3][0-7]{2})"
    return re.sub(octal, lambda match: bytes([int(match[1], 8)]), field)


def huge_page_size() -> int | None:
    """Return the bytes of a transparent huge page; None without them."""
    return read_int("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


def wait_readable(fd: int, timeout: float | None = None) -> bool:
    """Wait until a file descriptor is readable, or has an error.

    Where gevent or eventlet has patched `select`, other greenlets run meanwhile.

    Args:
        fd: The file descriptor.
        timeout: Seconds, 0 or more; None: no limit.

    Returns:
        Whether it is; False after the timeout.

    Raises:
        ValueError: `timeout` is negative.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout {timeout!r} is negative")
    if timeout is None or timeout > _FOREVER:
        timeout = math.inf
    if poll_now(fd, _select.POLLIN):
        return True
    end = time.monotonic() + timeout
    while (left := end - time.monotonic()) > 0:
        if _readable_within(fd, left):
            return True
    return False


def poll_now(fd: int, events: int) -> int:
    """Return which events of poll(2) a file descriptor has."""
    poll = _select.poll()
    poll.register(fd, events)
    return sum(events for _, events in poll.poll(0))


def _readable_within(fd: int, seconds: float) -> bool:
    milliseconds = min(math.ceil(min(1000 * seconds, _POLL_MAX)), _POLL_MAX)
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, _select.POLLIN)
        return bool(poll.poll(milliseconds))
    # eventlet has removed it; its select() takes any number
    return bool(select.select([fd], [], [], milliseconds / 1000)[0])


_PF_EXITING, _PF_KTHREAD = 0x4, 0x200000  # include/linux/sched.h


class Stat:
    """Some fields of /proc/PID/stat, readable for every user; proc_pid_stat(5).

    Args:
        text: Of the file; the name, which may contain any character, ends at the last
            ")".
    """

    __slots__ = (
        "flags",
        "major_faults",
        "nice",
        "parent",
        "pid",
        "policy",
        "start_ticks",
        "state",
        "system_ticks",
        "threads",
        "user_ticks",
    )

    def __init__(self, text: bytes) -> None:
        pid, _, _ = text.partition(b" ")
        rest = text[text.rindex(b")") + 1 :].split()
        self.pid = int(pid)
        self.state = rest[0].decode("ascii", "replace")
        (
            self.parent,
            self.flags,
            self.major_faults,
            self.user_ticks,
            self.system_ticks,
            self.threads,
            self.start_ticks,  # since boot
            self.nice,
            self.policy,  # SCHED_* of sched(7)
        ) = (int(rest[number - 3]) for number in (4, 9, 12, 14, 15, 20, 22, 19, 41))

    @property
    def is_exiting(self) -> bool:
        """Whether its leader has begun to exit."""
        return bool(self.flags & _PF_EXITING)

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it is a kernel thread, without memory of its own."""
        return bool(self.flags & _PF_KTHREAD)


def read_stat(proc: int) -> Stat:
    """Return the fields of stat of an open directory /proc/PID."""
    return Stat(read_in(proc, "stat"))
