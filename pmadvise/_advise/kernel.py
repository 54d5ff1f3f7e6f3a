"""The engine's view of the kernel, and of a snapshot: a test gives it others."""

from __future__ import annotations

from pmadvise._native.maps import VmaArray
from pmadvise._native.mm import Tally
from pmadvise._native.ranges import RangeArray
from pmadvise._proc.mm import MmEnd
from pmadvise.ranges import Ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class Kernel(Protocol):
    """The questions of the engine to the kernel about one mm."""

    tally: Tally
    """The calls made and the bytes advised so far."""

    @property
    def huge_page_size(self) -> int:
        """Bytes of a huge page."""

    def ended(self) -> MmEnd | None:
        """Return how the mm ended, None while the process runs in it."""

    def advise(self, vector: RangeArray) -> tuple[MmEnd | None, int, float]:
        """Advise ranges if the process still runs in the mm.

        Returns:
            How the mm ended if it does not; bytes of whole ranges advised, or
            -errno; seconds of the call.
        """

    def probe(self) -> int:
        """Return 0 if the target may be so advised, else -errno."""

    def explain(self, number: int) -> OSError:
        """Return the exception for an errno of the system call."""

    def is_user_address(self, address: int) -> bool:
        """Return whether an address is of user space."""

    def vmas_of(self, ranges: Ranges) -> VmaArray:
        """Return the VMAs that ranges touch, as they are now.

        Raises:
            ProcessLookupError: The process no longer runs in the mm.
        """

    def resident(self, ranges: Ranges) -> Ranges:
        """Return the parts of ranges that are in memory, merged.

        Raises:
            ProcessLookupError: The process no longer runs in the mm.
        """

    def is_inside_huge_page(self, address: int) -> bool:
        """Return whether a huge page covers an address and begins before it."""


class Snapshot(Protocol):
    """VMAs that ranges can be cut by: an AddressSpace or a VmaArray."""

    def cut(self, array: RangeArray) -> tuple[RangeArray, bytes]:
        """Return the pieces, and a byte each: is it mapped?"""
