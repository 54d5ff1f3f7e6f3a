"""Everything that is particular to an advice, an entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pmadvise._native.base import MAX_RW_COUNT, PAGE_SIZE
from pmadvise._proc.files import read_int
from pmadvise._proc.mm import Mm
from pmadvise._proc.smaps import RESIDENT_FIELDS, SWAP_FIELDS, Check, populated
from pmadvise.advice import Advice
from pmadvise.maps import AddressSpace
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap

_HPAGE_PMD_SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

_MANY = 1 << 12
_LARGE = 16 * PAGE_SIZE

# WILLNEED reads no more of a file for each range than the readahead of its disk:
# mm/readahead.c, force_page_cache_ra().
_READAHEAD = max(128 << 10, PAGE_SIZE)


class Source:
    """The means of a default selection.

    Args:
        space: The mappings.
        mm: Of the process.
        pagemap: None where it may not be read: whole mappings are selected, by smaps.
        check: Called between the steps of long reads; may raise.
    """

    __slots__ = ("check", "mm", "pagemap", "space")

    def __init__(
        self, space: AddressSpace, mm: Mm, pagemap: Pagemap | None, check: Check
    ) -> None:
        self.space, self.mm = space, mm
        self.pagemap, self.check = pagemap, check

    def eligible(self, executable: bool | None = None, min_length: int = 0) -> Ranges:
        """Return the private anonymous mappings, but for the kernel's own."""
        return self.space.select(
            anonymous=True, private=True, executable=executable, min_length=min_length
        )

    def resident(self, executable: bool | None = None) -> Ranges:
        """Return the parts of eligible mappings that are in memory.

        Where there are very many mappings, small ones are taken whole: to look at their
        pages takes longer than to advise them.
        """
        eligible = self.eligible(executable)
        if self.pagemap is None:
            return eligible & populated(self.mm, RESIDENT_FIELDS, self.check)
        if len(eligible) <= _MANY:
            return self.pagemap.resident(eligible)
        large = self.eligible(executable, _LARGE)
        return (eligible - large) | self.pagemap.resident(large)

    def swapped(self) -> Ranges:
        """Return the parts of eligible mappings that are in swap."""
        eligible = self.eligible()
        if self.pagemap is None:
            return eligible & populated(self.mm, SWAP_FIELDS, self.check)
        return self.pagemap.swapped(eligible)

    def filled(self, size: int) -> Ranges:
        """Return the aligned blocks inside eligible mappings that are half filled."""
        eligible = self.eligible(min_length=size)
        if self.pagemap is None:
            resident = eligible & populated(self.mm, RESIDENT_FIELDS, self.check)
        else:
            resident = self.pagemap.resident(eligible)
        blocks = eligible.merged().array.blocks(resident.array, size, size // 2)
        return Ranges.of_array(blocks)


def huge_page_size() -> int:
    """Return the bytes of a huge page that COLLAPSE makes."""
    # Without transparent huge pages the kernel refuses COLLAPSE, whatever the size.
    return read_int(_HPAGE_PMD_SIZE) or PAGE_SIZE * PAGE_SIZE // 8


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
        Profile(Advice.COLD, Source.resident, max_rate=8 << 30, splits_huge_pages=True),
        Profile(
            Advice.PAGEOUT,
            lambda source: source.resident(executable=False),
            splits_huge_pages=True,
            reclaims=True,
        ),
        Profile(
            Advice.WILLNEED,
            Source.swapped,
            max_element=lambda: _READAHEAD,
            budget_counts_resident=False,
        ),
        Profile(
            Advice.COLLAPSE,
            lambda source: source.filled(huge_page_size()),
            max_element=huge_page_size,
            whole_elements=True,
        ),
    )
}


def profile_of(advice: int) -> Profile:
    """Return the profile of an advice; a plain one for those to the own process."""
    return _PROFILES.get(advice) or Profile(advice)
