"""Everything that is particular to an advice, an entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pmadvise._native.base import MAX_RW_COUNT, PAGE_SIZE
from pmadvise._proc.files import read_int
from pmadvise._proc.mm import Mm
from pmadvise._proc.smaps import RESIDENT_FIELDS, SWAP_FIELDS, Check, populated
from pmadvise.advice import Advice
from pmadvise.maps import AddressSpace
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap

_HPAGE_PMD_SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

# WILLNEED reads no more of a file for each range than the readahead of its disk:
# mm/readahead.c, force_page_cache_ra().
_READAHEAD = max(128 << 10, PAGE_SIZE)


class Source(NamedTuple):
    """The means of a default selection."""

    space: AddressSpace
    mm: Mm
    pagemap: Pagemap | None
    """None where it may not be read; then whole mappings are selected, by smaps."""
    check: Check
    """Called between the steps of long reads; may raise."""

    def resident(self, eligible: Ranges) -> Ranges:
        """Return the parts that are in memory."""
        if self.pagemap is not None:
            return self.pagemap.resident(eligible)
        return eligible & populated(self.mm, RESIDENT_FIELDS, self.check)

    def swapped(self, eligible: Ranges) -> Ranges:
        """Return the parts that are in swap."""
        if self.pagemap is not None:
            return self.pagemap.swapped(eligible)
        return eligible & populated(self.mm, SWAP_FIELDS, self.check)


def huge_page_size() -> int:
    """Return the bytes of a huge page that COLLAPSE makes."""
    # Without transparent huge pages the kernel refuses COLLAPSE, whatever the size.
    return read_int(_HPAGE_PMD_SIZE) or PAGE_SIZE * PAGE_SIZE // 8


def _cold(source: Source) -> Ranges:
    return source.resident(source.space.select(anonymous=True, private=True))


def _pageout(source: Source) -> Ranges:
    select = source.space.select
    return source.resident(select(anonymous=True, private=True, executable=False))


def _willneed(source: Source) -> Ranges:
    return source.swapped(source.space.select(anonymous=True, private=True))


def _collapse(source: Source) -> Ranges:
    size = huge_page_size()
    eligible = source.space.select(anonymous=True, private=True, min_length=size)
    filled = source.resident(eligible)
    blocks = eligible.merged().array.blocks(filled.array, size, size // 2)
    return Ranges.of_array(blocks)


@dataclass(frozen=True, slots=True)
class Profile:
    """What the engine has to know of an advice."""

    advice: int
    select: Callable[[Source], Ranges] | None = None
    """The default selection."""
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


_PROFILES = {
    profile.advice: profile
    for profile in (
        Profile(Advice.COLD, _cold, max_rate=8 << 30, splits_huge_pages=True),
        Profile(Advice.PAGEOUT, _pageout, splits_huge_pages=True, reclaims=True),
        Profile(
            Advice.WILLNEED,
            _willneed,
            max_element=lambda: _READAHEAD,
            budget_counts_resident=False,
        ),
        Profile(
            Advice.COLLAPSE, _collapse, max_element=huge_page_size, whole_elements=True
        ),
    )
}


def profile_of(advice: int) -> Profile:
    """Return the profile of an advice; a plain one for those to the own process."""
    return _PROFILES.get(advice) or Profile(advice)
