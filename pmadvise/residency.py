"""Residency: the pages of a process that are in memory, and those in swap."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from types import TracebackType

from pmadvise._handle.mm import Mm
from pmadvise._handle.smaps import (
    RESIDENT_FIELDS,
    SWAP_FIELDS,
    Check,
    no_check,
    populated,
)
from pmadvise._native.base import ADDRESS_MAX, PAGE_SIZE
from pmadvise._native.descriptor import Descriptor
from pmadvise._native.pagemap import (
    MOST_ADDRESSES,
    MOST_PAGE_TABLES,
    PAGE_IS_GUARD,
    PAGE_IS_HUGE,
    PAGE_IS_PFNZERO,
    PAGE_IS_PRESENT,
    PAGE_IS_SWAPPED,
    PAGES_PRESENT,
    PAGES_SHARED,
    PAGES_SWAPPED,
    Pages,
    pagemap_read,
    pagemap_scan,
    walks,
)
from pmadvise._native.ranges import RangeArray
from pmadvise._origin import own
from pmadvise._proc.files import parse_kb_fields
from pmadvise.ranges import Ranges, RangesLike

_LAST_PAGE = ADDRESS_MAX + 1 - PAGE_SIZE
# Without PAGEMAP_SCAN, reading the entries of more addresses than this takes longer
# than reading smaps, which shows the mappings that have pages.
_WORTH_SMAPS = 1 << 30
# Reading the number of page tables takes as long as walking so many addresses.
_WORTH_STATUS = 16 * MOST_ADDRESSES
_HUGE_WINDOW = 128
"""The number of huge pages in one request to the kernel."""


class Pagemap:
    """An open /proc/PID/pagemap of one mm: a context manager.

    Args:
        mm: The address space.
        check: Called between the steps of a walk.
        verify: As Mm.open_file() takes it.

    Raises:
        PermissionError: ptrace read access or, for the process of another user,
            CAP_DAC_READ_SEARCH is missing.
        ProcessLookupError: The process no longer has that mm.
    """

    def __init__(self, mm: Mm, check: Check = no_check, verify: bool = True) -> None:
        self._mm, self._check = mm, check
        self._file = mm.open_file("pagemap", verify)
        self._can_scan = True
        self._huge = Ranges()
        self._huge_from = self._huge_until = 0

    def __enter__(self) -> Pagemap:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def resident(self, within: Ranges | None = None) -> Ranges:
        """Return the pages in memory except the zero page, merged."""
        return self._pages(within, swapped=False)

    def swapped(self, within: Ranges | None = None) -> Ranges:
        """Return the pages of private memory in swap, merged."""
        return self._pages(within, swapped=True)

    def shared(self, resident: Ranges) -> Ranges:
        """Return the resident pages that other processes map as well."""
        return self._read(resident, PAGES_SHARED) & resident

    def exclusive(self, resident: Ranges) -> Ranges:
        """Return the resident pages that no other process maps."""
        parts = [pages.marked() for pages in self.exclusive_pages(resident)]
        return Ranges._of_array(RangeArray.joined(parts)) & resident

    def exclusive_pages(self, resident: Ranges) -> Iterator[Pages]:
        """Yield these pages with their frames, a part at a time."""
        try:
            for part in Pages(self._file.fd).parts(resident.merged()._array):
                yield part
                self._check()
        except own(ProcessLookupError):
            raise self._mm.identity.gone() from None

    def next_huge_page(self, start: int, size: int) -> int:
        """Return an address up to which no huge page is known from `start` on.

        It is `start` if there is a huge page of `size` bytes, and far away if the
        kernel can't report any. One request covers many huge pages, as each takes the
        target's mmap lock.
        """
        if self._can_scan and not self._huge_from <= start < self._huge_until:
            # The first may lie beyond the end of user space.
            for n_pages in (_HUGE_WINDOW, 1):
                if self._find_huge_pages(start, start + n_pages * size):
                    break
        if not self._can_scan:
            return sys.maxsize
        if not self._huge_from <= start < self._huge_until:
            return start + size
        behind = self._huge & Ranges([(start, self._huge_until - start)])
        return next((at for at, n in behind if n >= size), self._huge_until)

    def _find_huge_pages(self, start: int, end: int) -> bool:
        """Find the huge pages in [start, end); return whether that was possible."""
        kind = PAGE_IS_HUGE | PAGE_IS_PRESENT
        try:
            array = pagemap_scan(self._file.fd, [(start, end)], kind)
        except own(OSError) as error:
            self._can_scan = error.errno != errno.ENOTTY
            return False
        self._huge = Ranges._of_array(array)
        self._huge_from, self._huge_until = start, end
        return True

    def _pages(self, within: Ranges | None, swapped: bool) -> Ranges:
        wanted = None if within is None else within.merged()
        if wanted is not None and not len(wanted):
            return wanted
        try:
            pages = self._scan(wanted, swapped)
        except own(OSError) as error:
            if error.errno != errno.ENOTTY:
                raise
            self._can_scan = False
            mapped = self._worth_reading(wanted, swapped)
            pages = self._read(mapped, PAGES_SWAPPED if swapped else PAGES_PRESENT)
        # The walks cover whole pages, and small gaps between ranges.
        return pages.merged() if wanted is None else pages & wanted

    def _scan(self, wanted: Ranges | None, swapped: bool) -> Ranges:
        """Return the pages by PAGEMAP_SCAN, Linux 6.7."""
        if not self._can_scan:
            raise OSError(errno.ENOTTY, "PAGEMAP_SCAN")
        if wanted is not None:
            try:
                return self._scan_spans(walks(wanted._array), swapped)
            except own(OSError) as error:
                if error.errno != errno.EFAULT:
                    raise
        end = self._user_end()
        if wanted is None:
            return self._scan_spans([(0, end)], swapped, is_bounded=False)
        user = wanted & Ranges([(0, end)])
        return self._scan_spans(walks(user._array), swapped)

    def _scan_spans(
        self, spans: list[tuple[int, int]], swapped: bool, is_bounded: bool = True
    ) -> Ranges:
        is_bounded = is_bounded and self._may_walk_long(spans)
        if not swapped:
            return self._walk(spans, PAGE_IS_PRESENT, PAGE_IS_PFNZERO, is_bounded)
        try:
            # A guard page is reported as swapped but is not; its category: Linux 6.15.
            return self._walk(spans, PAGE_IS_SWAPPED, PAGE_IS_GUARD, is_bounded)
        except own(OSError) as error:
            if error.errno != errno.EINVAL:
                raise
        return self._walk(spans, PAGE_IS_SWAPPED, 0, is_bounded)

    def _may_walk_long(self, spans: list[tuple[int, int]]) -> bool:
        """Return whether one walk over all of the addresses may take long.

        A walk visits only page tables, empty ones too: if these are few, it is short
        even over reserved addresses.
        """
        if sum(end - start for start, end in spans) <= _WORTH_STATUS:
            return True
        try:
            status = parse_kb_fields(self._mm.identity.read("status"))
        except own(PermissionError, ProcessLookupError):
            return True  # the walk raises the same error
        return status.get("VmPTE", ADDRESS_MAX) > MOST_PAGE_TABLES

    def _walk(
        self,
        spans: list[tuple[int, int]],
        wanted: int,
        unwanted: int,
        is_bounded: bool,
    ) -> Ranges:
        try:
            array = pagemap_scan(
                self._file.fd, spans, wanted, unwanted, self._check, is_bounded
            )
        except own(ProcessLookupError):
            raise self._mm.identity.gone() from None
        return Ranges._of_array(array)

    def _user_end(self) -> int:
        """Return the end of user space: below it the kernel does not return EFAULT."""
        for bits in range(ADDRESS_MAX.bit_length(), 30, -1):
            end = (1 << bits) - PAGE_SIZE
            try:
                pagemap_scan(self._file.fd, [(end - PAGE_SIZE, end)], PAGE_IS_PRESENT)
            except own(OSError) as error:
                if error.errno != errno.EFAULT:
                    raise
            else:
                return end
        raise OSError(errno.EFAULT, "PAGEMAP_SCAN: no end of user space was found")

    def _worth_reading(self, wanted: Ranges | None, swapped: bool) -> Ranges:
        """Return the parts of VMAs whose entries have to be read one by one."""
        mapped = Ranges._of_array(self._mm.read_vmas().select())
        if wanted is not None:
            mapped &= wanted
        if mapped.total <= _WORTH_SMAPS:
            return mapped
        fields = SWAP_FIELDS if swapped else RESIDENT_FIELDS
        return mapped & populated(self._mm, fields, self._check)

    def _read(self, wanted: Ranges, kind: int) -> Ranges:
        """Return the pages by the entries of pagemap."""
        spans = [
            (address & -PAGE_SIZE, -(-(address + length) // PAGE_SIZE) * PAGE_SIZE)
            for address, length in wanted
            if address <= _LAST_PAGE
        ]
        try:
            kpageflags = Descriptor.open("/proc/kpageflags")
        except own(FileNotFoundError, PermissionError):
            kpageflags = None  # without root the kernel hides frame numbers as well
        frames = kpageflags.fd if kpageflags is not None else -1
        array = pagemap_read(self._file.fd, frames, spans, kind, self._check)
        return Ranges._of_array(array)


def resident(mm: Mm, within: RangesLike | None) -> Ranges:
    """Return the pages in memory; errors as Pagemap."""
    wanted = None if within is None else Ranges(within)
    with Pagemap(mm) as pagemap:
        return pagemap.resident(wanted)


def swapped(mm: Mm, within: RangesLike | None) -> Ranges:
    """Return the pages in swap; errors as Pagemap."""
    wanted = None if within is None else Ranges(within)
    with Pagemap(mm) as pagemap:
        return pagemap.swapped(wanted)
