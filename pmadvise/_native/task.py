"""csrc/task.c: the threads of a process."""

from __future__ import annotations

import _thread
import errno
from typing import Any, NamedTuple

from pmadvise._native.base import ffi, lib

_FIRST = 64
_PID_MAX = 1 << 22  # include/linux/threads.h, PID_MAX_LIMIT


class Thread(NamedTuple):
    """A struct pmadvise_thread; see csrc/pmadvise.h."""

    tid: int
    state: str
    tracer: int
    seized: int


class ThreadArray:
    """A native ``struct pmadvise_thread[]``."""

    __slots__ = ("cdata", "n")

    def __init__(self, cdata: Any, n: int) -> None:
        self.cdata, self.n = cdata, n

    def __len__(self) -> int:
        return self.n

    def threads(self) -> list[Thread]:
        """Return the threads as Python objects."""
        return [
            Thread(t.tid, chr(t.state), t.tracer, t.seized)
            for t in self.cdata[0 : self.n]
        ]

    def any_refused(self) -> bool:
        """Return whether ptrace_seize() was refused one of them."""
        return any(t.seized < 0 for t in self.cdata[0 : self.n])

    def last(self) -> ThreadArray:
        """Return a new array, of the last thread alone."""
        if self.n == 0:
            return ThreadArray(ffi.new("struct pmadvise_thread[]", 0), 0)
        last = ffi.new("struct pmadvise_thread[]", 1)
        last[0] = self.cdata[self.n - 1]
        return ThreadArray(last, 1)


def task_list(proc: int) -> ThreadArray | int:
    """Return the threads listed in a /proc/PID directory, or -errno.

    Only their tid is set: task_status() sets state and tracer.
    """
    capacity = _FIRST
    while True:
        array = ffi.new("struct pmadvise_thread[]", capacity)
        n = lib.pmadvise_task_list(proc, array, capacity)
        if n < 0:
            return n
        if n <= capacity:
            return ThreadArray(array, n)
        capacity = 2 * n


def task_status(proc: int, array: ThreadArray) -> int:
    """Set state and tracer of listed threads; return 0, or -errno."""
    return lib.pmadvise_task_status(proc, array.cdata, array.n)


def task_own() -> int:
    """Return the ID of the calling thread.

    Raises:
        OSError: A seccomp filter refuses gettid(2), where Python takes -1 for the ID.
    """
    tid = _thread.get_native_id()
    if tid > _PID_MAX:
        raise OSError(
            errno.ENOSYS,
            "gettid(2) is refused by a seccomp filter, which has to allow it",
        )
    return tid


def task_ended(tid: int, microseconds: int) -> bool:
    """Wait for the end of a thread of this process; return whether it has ended."""
    return bool(lib.pmadvise_task_ended(tid, microseconds))
