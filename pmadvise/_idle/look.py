"""Look: what a source sees at one time, and the memory that it can watch."""

from __future__ import annotations

from typing import NamedTuple

from pmadvise._handle.mm import Mm
from pmadvise._native.maps import VMA_SHARED
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Source(Protocol):
        """A source of looks at one mm."""

        name: str
        grain: int
        """Bytes that are told apart; 0: whole mappings."""

        def look(self) -> Look:
            """Return what was not touched since the last look; the first: nothing."""

        def close(self) -> None:
            """Put everything back; may be called again."""


class Look(NamedTuple):
    """What a source saw."""

    untouched: Ranges
    """Not touched since the last look, if it was watched since; maybe more, which is
    not in memory."""
    watched: Ranges
    """In memory, of private mappings, mapped by no other process, and watched from now
    on."""
    resident: int
    """Bytes in memory, the others too."""


def private_memory(mm: Mm, pagemap: Pagemap) -> tuple[Ranges, int]:
    """Return the pages of private mappings in memory, and the bytes of all pages."""
    resident = pagemap.resident()
    private = Ranges._of_array(mm.read_vmas().select(VMA_SHARED, 0))
    return resident & private, resident.total
