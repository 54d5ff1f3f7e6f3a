"""The C functions as typed Python ones; alone in importing the extension.

A ``RangeArray`` is a native ``struct pmadvise_range[]``: an array that the
kernel reads in place as its ``struct iovec[]``, and that owns its memory.
Functions named after a system call return what it returns, ``-errno`` for
an error: what an errno means depends on the caller, who raises OSError.
"""

from __future__ import annotations

import os
import struct
from typing import Any, NamedTuple, TypeAlias

from pmadvise._ffi import ffi, lib

RangeArray: TypeAlias = Any
ThreadArray: TypeAlias = Any

PAGE_SIZE: int = os.sysconf("SC_PAGESIZE")
"""Bytes in a page of this machine."""
IOV_MAX: int = 1024
"""The most ranges that one process_madvise(2) takes (UIO_MAXIOV)."""
MAX_RW_COUNT: int = 0x7FFFFFFF & -PAGE_SIZE
"""The most bytes that one process_madvise(2) takes (include/linux/fs.h)."""
ADDRESS_MAX: int = (1 << 8 * struct.calcsize("P")) - 1

_RANGE_SIZE = struct.calcsize("@NN")

checked = lib.pmadvise_checked
checked_range = lib.pmadvise_checked_range
pidfd_open = lib.pmadvise_pidfd_open
pidfd_send_signal = lib.pmadvise_pidfd_send_signal


def process_madvise(
    pidfd: int, array: RangeArray, start: int, n: int, advice: int
) -> int:
    """Advise `n` ranges of `array` from index `start` on, nothing checked.

    Returns the bytes of whole ranges advised, or -errno. Wraps
    process_madvise(2).
    """
    return lib.pmadvise_process_madvise(pidfd, array + start, n, advice, 0)


def probe(pidfd: int, advice: int) -> int:
    """Ask the kernel with an empty vector: 0, or -errno; nothing is advised.

    Every check of process_madvise(2) is made but those of the ranges.
    """
    return lib.pmadvise_process_madvise(pidfd, ffi.NULL, 0, advice, 0)


def new_ranges(n: int) -> RangeArray:
    """Return an array of `n` ranges, all zero."""
    return ffi.new("struct pmadvise_range[]", n)


def copy_ranges(array: RangeArray, start: int, n: int) -> RangeArray:
    """Return a new array of the `n` ranges from index `start` on."""
    copy = new_ranges(n)
    ffi.memmove(copy, array + start, n * _RANGE_SIZE)
    return copy


def ranges_from_buffer(buffer: Any, n: int) -> tuple[RangeArray, int]:
    """Return a copy of `n` native pairs and the index of the first that wraps."""
    array = new_ranges(n)
    ffi.memmove(array, buffer, n * _RANGE_SIZE)
    return array, lib.pmadvise_ranges_wrapping(array, n)


def ranges_from_columns(
    addresses: list[int], lengths: list[int]
) -> tuple[RangeArray, int]:
    """Return an array of two columns and the index of the first that wraps.

    Raises:
        struct.error: A value is not an int, or does not fit into an address.
    """
    n = len(addresses)
    array = new_ranges(n)
    column = f"@{n}N"
    wrapping = lib.pmadvise_ranges_fill(
        array,
        ffi.from_buffer("uintptr_t[]", struct.pack(column, *addresses)),
        ffi.from_buffer("size_t[]", struct.pack(column, *lengths)),
        n,
    )
    return array, wrapping


def ranges_buffer(array: RangeArray, n: int) -> memoryview:
    """Return the bytes of the first `n` ranges, in place and read-only."""
    return memoryview(ffi.buffer(array, n * _RANGE_SIZE)).toreadonly()


def ranges_get(array: RangeArray, index: int) -> tuple[int, int]:
    """Return address and length of one range."""
    element = array[index]
    return element.address, element.length


def ranges_total(array: RangeArray, n: int) -> int:
    """Return the sum of the lengths, however large."""
    total = ffi.new("uint64_t[2]")
    lib.pmadvise_ranges_total(array, n, total)
    return int(total[1] << 64 | total[0])


def ranges_refused(array: RangeArray, n: int) -> int:
    """Return the index of the first range that one call would not take whole."""
    return lib.pmadvise_ranges_refused(array, n)


def _trimmed(array: RangeArray, room: int, n: int) -> tuple[RangeArray, int]:
    return (array if n == room else copy_ranges(array, 0, n)), n


def ranges_merge(
    a: RangeArray, na: int, b: RangeArray | None = None, nb: int = 0
) -> tuple[RangeArray, int]:
    """Return the ranges of `a` and `b` sorted and joined, and their number."""
    array = new_ranges(na + nb)
    ffi.memmove(array, a, na * _RANGE_SIZE)
    if b is not None:
        ffi.memmove(array + na, b, nb * _RANGE_SIZE)
    return _trimmed(array, na + nb, lib.pmadvise_ranges_merge(array, na + nb))


def ranges_intersect(
    a: RangeArray, na: int, b: RangeArray, nb: int
) -> tuple[RangeArray, int]:
    """Return what is in both of two merged arrays, and the number of ranges."""
    array = new_ranges(na + nb)
    return _trimmed(array, na + nb, lib.pmadvise_ranges_intersect(a, na, b, nb, array))


def ranges_subtract(
    a: RangeArray, na: int, b: RangeArray, nb: int
) -> tuple[RangeArray, int]:
    """Return what is in merged `a` and not in merged `b`, and the number."""
    array = new_ranges(na + nb)
    return _trimmed(array, na + nb, lib.pmadvise_ranges_subtract(a, na, b, nb, array))


def ranges_split(
    array: RangeArray, n: int, max_bytes: int, page_size: int
) -> tuple[RangeArray, int]:
    """Return the ranges cut at page borders, none longer than `max_bytes`."""
    pieces = lib.pmadvise_ranges_split(array, n, max_bytes, page_size, ffi.NULL)
    out = new_ranges(pieces)
    lib.pmadvise_ranges_split(array, n, max_bytes, page_size, out)
    return out, pieces


task_status = lib.pmadvise_task_status
ptrace_seize = lib.pmadvise_ptrace_seize
ptrace_stopped = lib.pmadvise_ptrace_stopped
ptrace_detach = lib.pmadvise_ptrace_detach
ptrace_reap = lib.pmadvise_ptrace_reap


def task_list(proc: int) -> tuple[ThreadArray, int]:
    """Return the threads listed in a /proc/PID directory, and how many, or -errno.

    Only their tid is set: ``task_status`` sets state and tracer.
    """
    room = 64
    while True:
        array = ffi.new("struct pmadvise_thread[]", room)
        n = lib.pmadvise_task_list(proc, array, room)
        if n <= room:
            return array, n
        room = 2 * n


class Thread(NamedTuple):
    """A struct pmadvise_thread; see csrc/pmadvise.h."""

    tid: int
    state: str
    tracer: int
    seized: int


def threads_get(array: ThreadArray, n: int) -> list[Thread]:
    """Return the first `n` threads."""
    return [Thread(t.tid, chr(t.state), t.tracer, t.seized) for t in array[0:n]]
