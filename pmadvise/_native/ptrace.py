"""csrc/ptrace.c: every thread of a process stopped by ptrace(2)."""

from __future__ import annotations

from pmadvise._native.base import lib
from pmadvise._native.task import ThreadArray


def ptrace_seize(proc: int, array: ThreadArray) -> int:
    """Seize and interrupt listed threads; set `seized`; return how many are stopped."""
    return lib.pmadvise_ptrace_seize(proc, array.cdata, array.n)


def ptrace_stopped(array: ThreadArray) -> int:
    """Return how many threads are stopped by the calling thread."""
    return lib.pmadvise_ptrace_stopped(array.cdata, array.n)


def ptrace_detach(array: ThreadArray) -> int:
    """Detach from the stopped ones, with their signals; return how many these were."""
    return lib.pmadvise_ptrace_detach(array.cdata, array.n)


def ptrace_reap(array: ThreadArray, leader: int) -> int:
    """Reap threads that died while traced, never `leader`; return how many."""
    return lib.pmadvise_ptrace_reap(array.cdata, array.n, leader)
