"""csrc/ptrace.c: the stop of all threads of a process by ptrace(2)."""

from __future__ import annotations

import math

from pmadvise._native.base import lib
from pmadvise._native.task import ThreadArray

_FOREVER = (1 << 64) - 1  # nanoseconds


def ptrace_refused() -> int:
    """Return the errno of a seccomp filter that refuses ptrace(2), 0 if none does."""
    return lib.pmadvise_ptrace_refused()


def ptrace_seize(proc: int, array: ThreadArray, deadline: float = math.inf) -> int:
    """Seize and interrupt listed threads; set `seized`; return how many are stopped.

    Args:
        proc: File descriptor of the directory /proc/PID.
        array: The threads.
        deadline: Of time.monotonic(), in seconds: those after it are left alone.
    """
    nanoseconds = _FOREVER if deadline > _FOREVER / 1e9 else int(max(deadline, 0) * 1e9)
    return lib.pmadvise_ptrace_seize(proc, array.cdata, array.n, nanoseconds)


def ptrace_stopped(array: ThreadArray) -> int:
    """Return how many threads are stopped by the calling thread."""
    return lib.pmadvise_ptrace_stopped(array.cdata, array.n)


def ptrace_detach(array: ThreadArray) -> int:
    """Detach from the stopped threads, with their signals.

    Return how many stop again at once, for a signal and no longer for a tracer.
    """
    return lib.pmadvise_ptrace_detach(array.cdata, array.n)


def ptrace_reap(array: ThreadArray, leader: int) -> int:
    """Reap threads that died while traced, never `leader`; return how many."""
    return lib.pmadvise_ptrace_reap(array.cdata, array.n, leader)
