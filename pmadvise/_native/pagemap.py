"""csrc/pagemap.c: the pages that are in memory or in swap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pmadvise._native.base import (
    ADDRESS_MAX,
    PAGE_SIZE,
    check,
    ffi,
    grown,
    lib,
    uninitialized,
)
from pmadvise._native.ranges import RangeArray

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGE_IS_PRESENT: int = lib.PMADVISE_PAGE_IS_PRESENT
PAGE_IS_SWAPPED: int = lib.PMADVISE_PAGE_IS_SWAPPED
PAGE_IS_PFNZERO: int = lib.PMADVISE_PAGE_IS_PFNZERO
PAGE_IS_HUGE: int = lib.PMADVISE_PAGE_IS_HUGE
PAGE_IS_GUARD: int = lib.PMADVISE_PAGE_IS_GUARD

PAGES_PRESENT: int = lib.PMADVISE_PAGES_PRESENT
PAGES_SWAPPED: int = lib.PMADVISE_PAGES_SWAPPED
PAGES_SHARED: int = lib.PMADVISE_PAGES_SHARED

_FIRST = 1024
_MOST_WALKS = 64
MOST_PAGE_TABLES = 2048 * PAGE_SIZE
"""Bytes of 2,048 page tables: a walk over them, all of them empty, takes 2 ms."""
MOST_ADDRESSES = MOST_PAGE_TABLES // 8 * PAGE_SIZE
"""Bytes of the addresses that these have entries for."""


def walks(merged: RangeArray) -> list[tuple[int, int]]:
    """Return [start, end) of whole pages to walk, so that they hold merged ranges.

    They are few, as a walk over everything is faster than very many.
    """
    out = uninitialized("struct pmadvise_range[]", _MOST_WALKS)
    n = lib.pmadvise_pagemap_walks(merged.cdata, merged.n, out, _MOST_WALKS)
    return [(walk.address, walk.address + walk.length) for walk in out[0:n]]


def _collect(
    walk: Callable[[int, int, Any, Any, int], int],
    spans: Iterable[tuple[int, int]],
    check_step: Callable[[], object] | None,
    call: str,
) -> RangeArray:
    """Call `walk` until it is through all spans; it writes ranges to one array."""
    walk_end = ffi.new("uintptr_t *")
    capacity, n = _FIRST, 0
    out = uninitialized("struct pmadvise_range[]", capacity)
    for start, end in spans:
        at = start
        while at < end:
            if n == capacity:
                capacity *= 4
                out = grown("struct pmadvise_range", out, n, capacity)
            n += check(walk(at, end, walk_end, out + n, capacity - n), call)
            at = walk_end[0]
            if check_step is not None:
                check_step()
    return RangeArray(out, n)


def pagemap_scan(
    pagemap_fd: int,
    spans: Iterable[tuple[int, int]],
    wanted: int,
    unwanted: int = 0,
    check_step: Callable[[], object] | None = None,
    is_bounded: bool = True,
) -> RangeArray:
    """Return the pages with all wanted and no unwanted categories, in [start, end).

    `check_step` is called after each step of the walk, and may raise. The target's mmap
    lock is not held for long if it `is_bounded`; to walk the whole address space takes
    20 ms then.

    Raises:
        OSError: ENOTTY, the kernel lacks PAGEMAP_SCAN; EINVAL, it does not know a
            category; ESRCH, the mm is gone; EFAULT, an end outside of user space.
    """
    most = MOST_ADDRESSES if is_bounded else ADDRESS_MAX

    def walk(start: int, end: int, walk_end: Any, out: Any, capacity: int) -> int:
        return lib.pmadvise_pagemap_scan(
            pagemap_fd, start, end, most, wanted, unwanted, walk_end, out, capacity
        )

    return _collect(walk, spans, check_step, "PAGEMAP_SCAN")


def pagemap_read(
    pagemap_fd: int,
    kpageflags_fd: int,
    spans: Iterable[tuple[int, int]],
    kind: int,
    check_step: Callable[[], object] | None = None,
) -> RangeArray:
    """Return the pages in the spans that are present, swapped or shared."""

    def walk(start: int, end: int, walk_end: Any, out: Any, capacity: int) -> int:
        return lib.pmadvise_pagemap_read(
            pagemap_fd, kpageflags_fd, start, end, kind, walk_end, out, capacity
        )

    return _collect(walk, spans, check_step, "pagemap")


class Pages:
    """Pages that one process alone maps, with their frames: a part of them at a time.

    Args:
        pagemap_fd: File descriptor of the process's pagemap.
    """

    __slots__ = ("_pagemap_fd", "cdata", "n")

    _MOST = 1 << 15

    def __init__(self, pagemap_fd: int) -> None:
        self._pagemap_fd = pagemap_fd
        self.cdata = uninitialized("struct pmadvise_page[]", self._MOST)
        self.n = 0

    def parts(self, merged: RangeArray) -> Iterator[Pages]:
        """Read the pages of ranges, part by part, and yield itself with each.

        Raises:
            OSError: Of pread(2).
        """
        index, start = ffi.new("size_t *"), ffi.new("uintptr_t *")
        while index[0] < merged.n:
            result = lib.pmadvise_pagemap_exclusive(
                self._pagemap_fd,
                merged.cdata,
                merged.n,
                index,
                start,
                self.cdata,
                self._MOST,
            )
            self.n = check(result, "pagemap")
            yield self

    def marked(self, marks: int = 0) -> RangeArray:
        """Return the pages of this part that have all of these marks."""
        out = uninitialized("struct pmadvise_range[]", self.n)
        n = lib.pmadvise_pages_marked(self.cdata, self.n, marks, out)
        return RangeArray(out, n).copy(0, n)
