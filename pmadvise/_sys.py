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


def process_madvise(pidfd: int, array: RangeArray, n: int, advice: int) -> int:
    """Advise the first `n` ranges of `array`, nothing checked.

    Returns the bytes of whole ranges advised, or -errno. Wraps
    process_madvise(2).
    """
    return lib.pmadvise_process_madvise(pidfd, array, n, advice, 0)


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


def ranges_unaligned(array: RangeArray, n: int) -> int:
    """Return the index of the first range that is not page-aligned."""
    return lib.pmadvise_ranges_unaligned(array, n)


def ranges_overlap(array: RangeArray, n: int, merged: RangeArray, m: int) -> list[int]:
    """Return how many bytes of each range lie in merged ranges."""
    overlap = ffi.new("size_t[]", n)
    lib.pmadvise_ranges_overlap(array, n, merged, m, overlap)
    return list(overlap)


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


# /proc/PID/maps

VmaArray: TypeAlias = Any
"""A native ``struct pmadvise_vma[]``."""

VMA_READABLE: int = lib.PMADVISE_VMA_READABLE
VMA_WRITABLE: int = lib.PMADVISE_VMA_WRITABLE
VMA_EXECUTABLE: int = lib.PMADVISE_VMA_EXECUTABLE
VMA_SHARED: int = lib.PMADVISE_VMA_SHARED
VMA_ANONYMOUS: int = lib.PMADVISE_VMA_ANONYMOUS

_uncleared = ffi.new_allocator(should_clear_after_alloc=False)
_READ_FIRST = 1 << 18


def _check(result: int, call: str) -> int:
    if result < 0:
        raise OSError(-result, f"{call}: {os.strerror(-result)}")
    return result


def read_text(fd: int) -> tuple[Any, int]:
    """Return the contents of a file of /proc as a native char[], and their size."""
    room, text, used = _READ_FIRST, None, 0
    while True:
        grown = _uncleared("char[]", room)
        if text is not None:
            ffi.memmove(grown, text, used)
        text = grown
        used += _check(lib.pmadvise_pread(fd, text + used, room - used, used), "pread")
        if used < room:
            return text, used
        room *= 4


def text_from_bytes(octets: bytes) -> tuple[Any, int]:
    """Return bytes as read_text() returns a file's."""
    return ffi.new("char[]", octets), len(octets)


def text_bytes(text: Any, start: int, length: int) -> bytes:
    """Return a part of a text."""
    return bytes(ffi.buffer(text + start, length))


def maps_parse(text: Any, size: int) -> tuple[VmaArray, int]:
    """Parse the text of /proc/PID/maps; raise OSError (EBADMSG) if it is none."""
    room = lib.pmadvise_maps_lines(text, size)
    vmas = _uncleared("struct pmadvise_vma[]", room)
    return vmas, _check(lib.pmadvise_maps_parse(text, size, vmas, room), "maps")


def vmas_select(
    vmas: VmaArray,
    n: int,
    text: Any,
    size: int,
    mask: int,
    flags: int,
    min_length: int,
    pattern: bytes | None,
) -> tuple[RangeArray, int]:
    """Return the ranges of the VMAs that have these flags, length and path."""
    scratch = ffi.NULL if pattern is None else _uncleared("char[]", size + 1)
    out = _uncleared("struct pmadvise_range[]", n)
    selected = lib.pmadvise_vmas_select(
        vmas,
        n,
        text,
        mask,
        flags,
        min_length,
        ffi.NULL if pattern is None else pattern,
        scratch,
        out,
    )
    return _trimmed(out, n, selected)


def vmas_changed(
    old: VmaArray, n_old: int, old_text: Any, now: VmaArray, n_now: int, now_text: Any
) -> tuple[RangeArray, int]:
    """Return the ranges of `old` that are not the same in `now`."""
    room = n_old + n_now
    out = _uncleared("struct pmadvise_range[]", room)
    n = lib.pmadvise_vmas_changed(old, n_old, old_text, now, n_now, now_text, out)
    return _trimmed(out, room, n)


def vmas_cut(
    vmas: VmaArray, n_vmas: int, array: RangeArray, n: int
) -> tuple[RangeArray, int, bytes]:
    """Return ranges cut at VMA borders, their number, and a byte each: is it mapped?"""
    pieces = lib.pmadvise_vmas_cut(vmas, n_vmas, array, n, ffi.NULL, ffi.NULL)
    out = _uncleared("struct pmadvise_range[]", pieces)
    mapped = _uncleared("unsigned char[]", pieces)
    lib.pmadvise_vmas_cut(vmas, n_vmas, array, n, out, mapped)
    return out, pieces, bytes(ffi.buffer(mapped, pieces))


def procmap_query(maps_fd: int) -> int:
    """Ask whether the mm of an open maps file lives: 0, or -errno (ENOTTY: too old)."""
    return lib.pmadvise_procmap_query(maps_fd)


def procmap_vmas(maps_fd: int, array: RangeArray, n: int) -> tuple[VmaArray, int]:
    """Return start and end of the VMAs that merged ranges touch; raise OSError."""
    index, address = ffi.new("size_t *"), ffi.new("uintptr_t *")
    room = 256
    vmas, found = _uncleared("struct pmadvise_vma[]", room), 0
    while index[0] < n:
        if found == room:
            room *= 4
            grown = _uncleared("struct pmadvise_vma[]", room)
            ffi.memmove(grown, vmas, ffi.sizeof("struct pmadvise_vma") * found)
            vmas = grown
        found += _check(
            lib.pmadvise_procmap_vmas(
                maps_fd, array, n, index, address, vmas + found, room - found
            ),
            "PROCMAP_QUERY",
        )
    return vmas, found


class Batches:
    """Hand out ranges in order, in vectors for one call each.

    Args:
        array: What is to be handed out.
        start: Index of the first range of it.
        stop: Index behind the last.
    """

    __slots__ = ("_array", "_index", "_n", "_offset", "vector")

    def __init__(self, array: RangeArray, start: int, stop: int) -> None:
        self._array, self._n = array, stop
        self._index, self._offset = ffi.new("size_t *", start), ffi.new("size_t *")
        self.vector: RangeArray = new_ranges(IOV_MAX)
        """The ranges that take() has handed out last."""

    def take(self, max_bytes: int, longest: int, border: int, room: int) -> int:
        """Fill `vector`; return its number of ranges, 0 when none are left.

        Args:
            max_bytes: The most bytes in all.
            longest: The most bytes a range.
            border: What the address of a cut is a multiple of; a power of two, at
                least a page, at most `max_bytes` and `longest`.
            room: The most ranges, up to IOV_MAX.
        """
        return lib.pmadvise_batch(
            self._array,
            self._n,
            self._index,
            self._offset,
            max_bytes,
            longest,
            border,
            self.vector,
            room,
        )

    def position(self) -> tuple[int, int]:
        """Return where take() goes on, for back_to()."""
        return self._index[0], self._offset[0]

    def back_to(self, position: tuple[int, int], n_bytes: int) -> None:
        """Have take() go on `n_bytes` behind an earlier position."""
        index, offset = position
        offset += n_bytes
        while index < self._n and offset >= self._array[index].length:
            offset -= self._array[index].length
            index += 1
        self._index[0], self._offset[0] = index, offset


# /proc/PID/pagemap

PAGE_IS_PRESENT = 8
PAGE_IS_SWAPPED = 0x10
PAGE_IS_PFNZERO = 0x20
PAGE_IS_GUARD = 0x100

_REGIONS_FIRST = 1024


def _gather(
    scan: Any, spans: list[tuple[int, int]], call: str
) -> tuple[RangeArray, int]:
    """Call `scan` until it has walked all spans; it writes ranges to one array."""
    walk_end = ffi.new("uintptr_t *")
    room, n = _REGIONS_FIRST, 0
    out = _uncleared("struct pmadvise_range[]", room)
    for start, end in spans:
        at = start
        while at < end:
            if n == room:
                room *= 4
                grown = _uncleared("struct pmadvise_range[]", room)
                ffi.memmove(grown, out, n * _RANGE_SIZE)
                out = grown
            n += _check(scan(at, end, walk_end, out + n, room - n), call)
            at = walk_end[0]
    return _trimmed(out, room, n)


def pagemap_scan(
    pagemap_fd: int, spans: list[tuple[int, int]], inverted: int, mask: int
) -> tuple[RangeArray, int]:
    """Return the ranges in the spans [start, end) that have these categories.

    Raises:
        OSError: ENOTTY, the kernel lacks PAGEMAP_SCAN; EINVAL, a category;
            ESRCH, the mm is gone; EFAULT, an end outside of user space.
    """

    def scan(start: int, end: int, walk_end: Any, out: RangeArray, room: int) -> int:
        return lib.pmadvise_pagemap_scan(
            pagemap_fd, start, end, inverted, mask, walk_end, out, room
        )

    return _gather(scan, spans, "PAGEMAP_SCAN")


def pagemap_words(
    pagemap_fd: int, kpageflags_fd: int, spans: list[tuple[int, int]], swapped: bool
) -> tuple[RangeArray, int]:
    """Return the ranges in the spans that are in swap, or in memory."""

    def scan(start: int, end: int, walk_end: Any, out: RangeArray, room: int) -> int:
        return lib.pmadvise_pagemap_words(
            pagemap_fd, kpageflags_fd, start, end, swapped, walk_end, out, room
        )

    return _gather(scan, spans, "pagemap")


def set_length(array: RangeArray, index: int, length: int) -> None:
    """Shorten one range of an array that nobody else has."""
    array[index].length = length


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
