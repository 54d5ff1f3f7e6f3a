"""The selftest's own libc, to map and to observe memory independently of pmadvise."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

PAGE = mmap.PAGESIZE
LRU_BATCH = 64 * PAGE
"""More than a CPU's batch of pages that are not yet on an LRU list (PAGEVEC_SIZE)."""
MADV_RANDOM = 1
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_THP_DISABLE = 1, 4, 41

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
for _name in ("munmap", "mlock"):
    getattr(libc, _name).argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def checked(result: int | None, call: str) -> int:
    """Return the result of a function of libc; raise OSError if it failed."""
    if result in (-1, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result or 0


def map_memory(size: int, protection: int, fd: int = -1) -> int:
    """Map memory of the calling process; return its address.

    Anonymous memory has an inaccessible page on both sides, so that it is a VMA of its
    own.
    """
    if fd >= 0:
        shared = libc.mmap(None, size, protection, mmap.MAP_SHARED, fd, 0)
        return checked(shared, "mmap")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    area = checked(libc.mmap(None, size + 2 * PAGE, 0, flags, -1, 0), "mmap")
    checked(libc.mprotect(area + PAGE, size, protection), "mprotect")
    return area + PAGE


def in_core(address: int, size: int) -> int:
    """Return the bytes of memory in the page or swap cache. Wraps mincore(2)."""
    pages = ctypes.create_string_buffer(-(-size // PAGE))
    checked(libc.mincore(address, size, pages), "mincore")
    return sum(page & 1 for page in pages.raw[: -(-size // PAGE)]) * PAGE


def bytes_at(address: int, size: int) -> ctypes.Array[ctypes.c_char]:
    """Return memory of this process, not copied."""
    return (ctypes.c_char * size).from_address(address)


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Touch pages on one CPU, and then more of them, so that all are on an LRU list.

    COLD and PAGEOUT pass over pages that still wait in a CPU's batch for their list.
    """
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield
        with mmap.mmap(-1, LRU_BATCH) as scratch:
            for offset in range(0, LRU_BATCH, PAGE):
                scratch[offset] = 1
    finally:
        os.sched_setaffinity(0, cpus)
