"""Read files of /proc and /sys as bytes, and cut them into lines and fields.

The kernel ends lines with a newline and escapes newlines in names. It does not escape
anything else that a name may hold (a process, file, memfd, cgroup or mount point is
named by its owner), so text is cut at the newline and at no other character.
"""

from __future__ import annotations

from pmadvise._native.read import read_file


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
        name: int(value[:-3]) * 1024
        for name, value in fields(text).items()
        if value.endswith(b" kB") and value[:-3].isdigit()
    }


def huge_page_size() -> int | None:
    """Return the bytes of a transparent huge page; None without them."""
    return read_int("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


_PF_EXITING, _PF_KTHREAD = 0x4, 0x200000  # include/linux/sched.h


class Stat:
    """Some fields of /proc/PID/stat, which anybody may read; proc_pid_stat(5).

    Args:
        text: Of the file; the name, which may hold anything, ends at the last ")".
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
        """Whether it is a thread of the kernel, without memory of its own."""
        return bool(self.flags & _PF_KTHREAD)


def read_stat(proc: int) -> Stat:
    """Return the fields of stat of an open directory /proc/PID."""
    return Stat(read_in(proc, "stat"))
