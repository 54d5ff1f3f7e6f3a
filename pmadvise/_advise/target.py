"""The kernel's answers about one mm, as the engine asks for them."""

from __future__ import annotations

import errno

from pmadvise._advise.profiles import Profile, huge_page_size
from pmadvise._native.descriptor import Descriptor
from pmadvise._native.maps import VmaArray
from pmadvise._native.mm import Tally
from pmadvise._native.process_madvise import probe, process_madvise
from pmadvise._native.ranges import RangeArray
from pmadvise._proc.mm import Mm, MmEnd
from pmadvise._proc.smaps import Check
from pmadvise.calls import explain
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap


class Target:
    """A process that is advised: its mm, and the pages of that.

    Args:
        mm: The address space.
        profile: Of the advice.
        check: Called between the steps of long reads; may raise.
    """

    def __init__(self, mm: Mm, profile: Profile, check: Check) -> None:
        self.mm, self._profile, self._check = mm, profile, check
        self._file: Descriptor | None = None
        self._lent: object = None
        self._pagemap: Pagemap | None = None
        self._may_read_pages = True
        self._huge_page_size: int | None = None
        self.tally = Tally()

    def open(self) -> None:
        """Open the file that marks the mm; errors as Mm.file()."""
        self._lent = self.mm.identity.lend()
        self._file = self.mm.file()

    def close(self) -> None:
        """Close the files."""
        self._lent = None
        pagemap, self._pagemap, self._file = self._pagemap, None, None
        if pagemap is not None:
            pagemap.close()

    def ended(self) -> MmEnd | None:
        """Return how the mm ended, None while the process runs in it."""
        return self.mm.ended()

    def advise(self, vector: RangeArray) -> tuple[MmEnd | None, int, float]:
        """Advise ranges if the process still runs in the mm.

        Returns:
            How the mm ended if it does not; bytes of whole ranges advised, or
            -errno; seconds of the call.
        """
        assert self._file is not None
        ended = self.mm.advise(self._file, vector, self._profile.advice, self.tally)
        return self.mm.end_of(ended), self.tally.result, self.tally.seconds

    def probe(self) -> int:
        """Return 0 if the target may be so advised, else -errno."""
        return probe(self.mm.identity.pidfd, self._profile.advice)

    def explain(self, number: int) -> OSError:
        """Return the exception for an errno of the system call."""
        return explain(self.mm.identity.pidfd, self._profile.advice, number)

    def is_user_address(self, address: int) -> bool:
        """Return whether an address is of user space.

        A zero-length range advises nothing but still fails with EFAULT outside user
        space.
        """
        nothing = RangeArray.of_one(address, 0)
        pidfd = self.mm.identity.pidfd
        return process_madvise(pidfd, nothing, self._profile.advice) != -errno.EFAULT

    def vmas_of(self, ranges: Ranges) -> VmaArray:
        """Return the VMAs that ranges touch, as they are now."""
        return self.mm.vmas_of(ranges.merged().array)

    def pagemap(self) -> Pagemap:
        """Return the pages of the mm; errors as Pagemap.

        Whether it is of this mm shows when the mm is looked at before the next call.
        """
        if self._pagemap is None:
            self._pagemap = Pagemap(self.mm, self._check, look=False)
        return self._pagemap

    def pagemap_or_none(self) -> Pagemap | None:
        """Return the pages of the mm, None if they may not be read."""
        if not self._may_read_pages:
            return None
        try:
            return self.pagemap()
        except PermissionError:
            self._may_read_pages = False
            return None

    def resident(self, ranges: Ranges) -> Ranges:
        """Return the parts of ranges that are in memory, merged."""
        return self.pagemap().resident(ranges)

    @property
    def huge_page_size(self) -> int:
        """Bytes of a huge page."""
        if self._huge_page_size is None:
            self._huge_page_size = huge_page_size()
        return self._huge_page_size

    def is_inside_huge_page(self, address: int) -> bool:
        """Return whether a huge page covers an address and begins before it."""
        size = self.huge_page_size
        if address % size == 0:
            return False
        pagemap = self.pagemap_or_none()
        return pagemap is not None and pagemap.huge_page_at(address, size)
