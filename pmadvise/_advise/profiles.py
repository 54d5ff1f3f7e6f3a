"""Profiles: all that is particular to an advice, an entry each."""

from __future__ import annotations

import os
from collections.abc import Callable

from pmadvise._handle.mm import Mm
from pmadvise._handle.smaps import RESIDENT_FIELDS, SWAP_FIELDS, Check, populated
from pmadvise._native.base import MAX_RW_COUNT, PAGE_SIZE
from pmadvise._proc import files
from pmadvise._record import record
from pmadvise.advice import Advice
from pmadvise.maps import AddressSpace
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap

_MANY = 1 << 12
_LARGE = 16 * PAGE_SIZE

# WILLNEED reads no more of a file for each range than the readahead of its disk:
# mm/readahead.c, force_page_cache_ra().
_READAHEAD = max(128 << 10, PAGE_SIZE)


# include/linux/mm.h, by the letters of smaps: can_madv_lru_vma() of mm/madvise.c, and
# __thp_vma_allowable_orders() of mm/huge_memory.c
_NOT_ON_LRU = frozenset({b"lo", b"pf", b"ht"})
_NEVER_HUGE = frozenset({b"nh", b"io", b"de", b"pf", b"mm", b"ht"})


class Source:
    """The memory that a selection is made from.

    Args:
        space: The mappings.
        mm: Of the process.
        pagemap: None where it may not be read: whole mappings are selected, by smaps.
        check: Called between the steps of long reads; may raise.
        within: The addresses to select from; None: private anonymous mappings.
    """

    __slots__ = ("check", "mm", "pagemap", "space", "within")

    def __init__(
        self,
        space: AddressSpace,
        mm: Mm,
        pagemap: Pagemap | None,
        check: Check,
        within: Ranges | None = None,
    ) -> None:
        self.space, self.mm, self.pagemap = space, mm, pagemap
        self.check, self.within = check, within

    def eligible(self, executable: bool | None = None, min_length: int = 0) -> Ranges:
        """Return the private anonymous mappings but for the kernel's own, or `within`.

        Args:
            executable: Which of the private anonymous mappings.
            min_length: Bytes of such a mapping.
        """
        if self.within is not None:
            return self.within
        return self.space.select(
            anonymous=True, private=True, executable=executable, min_length=min_length
        )

    def resident(self, executable: bool | None = None) -> Ranges:
        """Return the eligible memory that is in memory.

        Where there are very many mappings, small ones are taken whole: to look at their
        pages takes longer than to advise them.
        """
        eligible = self.eligible(executable)
        if self.within is not None or len(eligible) <= _MANY or self.pagemap is None:
            return self._in_memory(eligible)
        large = self.eligible(executable, _LARGE)
        return (eligible - large) | self._in_memory(large)

    def absent(self) -> Ranges:
        """Return the eligible memory that is in swap, or is of a file and absent."""
        eligible = self.eligible()
        if self.pagemap is not None:
            absent = self.pagemap.swapped(eligible)
        else:
            absent = eligible & populated(self.mm, SWAP_FIELDS, self.check)
        if self.within is None:
            return absent
        of_files = eligible & self.space.select(anonymous=False)
        if self.pagemap is None:
            return absent | of_files
        return absent | (of_files - self.pagemap.resident(of_files))

    def touchable(self, ranges: Ranges) -> Ranges:
        """Return the pages of ranges that reading maps, and makes no new ones for.

        Those in swap, and those of files on a disk that no page table has. Of shared
        memory the kernel does not show which pages are in swap and which were never
        written, and reading would fill these.
        """
        assert self.pagemap is not None
        readable = ranges.merged() & self.space.select(readable=True)
        swapped = self.pagemap.swapped(readable)
        of_files = readable & self.space.select(anonymous=False)
        if not of_files:
            return swapped
        on_disk = of_files & self._on_disk()
        return swapped | (on_disk - self.pagemap.resident(on_disk))

    def _on_disk(self) -> Ranges:
        from pmadvise._proc.mounts import (  # noqa: PLC0415 - not all need it
            is_on_disk,
            parse_mounts,
        )

        mounts = parse_mounts(self.mm.identity.read("mountinfo"))
        devices = {mount.device: is_on_disk(mount) for mount in mounts}
        return Ranges(
            (vma.start, vma.length)
            for vma in self.space
            if vma.device and devices.get(vma.device, os.major(vma.device) != 0)
        )

    def filled(self, size: int) -> Ranges:
        """Return the aligned blocks inside eligible memory that are half filled."""
        eligible = self.eligible(min_length=size).merged()
        resident = self._in_memory(eligible)
        blocks = eligible._array.blocks(resident._array, size, size // 2)
        return Ranges._of_array(blocks)

    def _in_memory(self, ranges: Ranges) -> Ranges:
        if self.pagemap is None:
            return ranges & populated(self.mm, RESIDENT_FIELDS, self.check)
        return self.pagemap.resident(ranges)


def huge_page_size() -> int:
    """Return the bytes of a huge page that COLLAPSE makes."""
    # Without transparent huge pages the kernel refuses COLLAPSE, whatever the size.
    return files.huge_page_size() or PAGE_SIZE * PAGE_SIZE // 8


@record
class Profile:
    """An advice, as the engine has to know it."""

    advice: int
    select: Callable[[Source], Ranges] | None = None
    """The selection."""
    max_element: Callable[[], int] = lambda: MAX_RW_COUNT
    """Bytes that one element of the vector has at the most."""
    whole_elements: bool = False
    """Whether the kernel does nothing with a part of such an element."""
    budget_counts_resident: bool = True
    """Whether a budget counts the bytes in memory, or those that are not."""
    max_rate: float = 512 << 20
    """Bytes a second that dense memory allows: see Pacer."""
    splits_huge_pages: bool = False
    """Whether a call that ends inside a huge page splits it."""
    reclaims: bool = False
    """Whether memory is to leave: then the Report has `remaining`."""
    refused_flags: frozenset[bytes] = frozenset()
    """VmFlags of the mappings that the kernel refuses (EINVAL): for a rehearsal."""


_PROFILES = {
    profile.advice: profile
    for profile in (
        Profile(
            Advice.COLD,
            Source.resident,
            max_rate=8 << 30,
            splits_huge_pages=True,
            refused_flags=_NOT_ON_LRU,
        ),
        Profile(
            Advice.PAGEOUT,
            lambda source: source.resident(executable=False),
            splits_huge_pages=True,
            reclaims=True,
            refused_flags=_NOT_ON_LRU,
        ),
        Profile(
            Advice.WILLNEED,
            Source.absent,
            max_element=lambda: _READAHEAD,
            budget_counts_resident=False,
        ),
        Profile(
            Advice.COLLAPSE,
            lambda source: source.filled(huge_page_size()),
            max_element=huge_page_size,
            whole_elements=True,
            refused_flags=_NEVER_HUGE,
        ),
    )
}


def profile_of(advice: int) -> Profile:
    """Return the profile of an advice; a plain one for those to the own process."""
    return _PROFILES.get(advice) or Profile(advice)
