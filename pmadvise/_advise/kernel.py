"""Kernel: the answers about one mm that the engine asks for, real or rehearsed."""

from __future__ import annotations

import errno
import sys

from pmadvise._advise.profiles import Profile, huge_page_size
from pmadvise._handle.identity import Pin
from pmadvise._handle.mm import Mm, MmEnd
from pmadvise._handle.smaps import Check, mappings_with_flags
from pmadvise._native import mm as _mm
from pmadvise._native.base import PAGE_SIZE
from pmadvise._native.descriptor import Descriptor
from pmadvise._native.maps import VmaArray
from pmadvise._native.mm import Burst, MmFingerprint, Tally
from pmadvise._native.process_madvise import probe, process_madvise
from pmadvise._native.ranges import RangeArray
from pmadvise._origin import own
from pmadvise._reasons.access import of_process_vm_readv
from pmadvise.calls import explain
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap


class Kernel:
    """The kernel as the engine asks it, about one mm; tests script another.

    Args:
        mm: The address space.
        profile: Of the advice.
        check: Called between the steps of long reads; may raise.
    """

    def __init__(self, mm: Mm, profile: Profile, check: Check) -> None:
        self._mm, self._profile, self._check = mm, profile, check
        self._file: Descriptor | None = None
        self._stat: Descriptor | None = None
        self._look: tuple[int, int, int, MmFingerprint] | None = None
        """What the C functions look by: pidfd, stat and maps, used under the pin."""
        self._pin: Pin | None = None
        self._pagemap: Pagemap | None = None
        self._may_read_pages = True
        self._huge_page_size: int | None = None
        self.tally = Tally()
        """The calls made and the bytes advised so far."""

    def open(self) -> None:
        """Open the file that marks the mm; errors as Mm.file()."""
        mm = self._mm
        self._pin = mm.identity.pin()
        self._file = mm.file()
        self._stat = mm.identity.open_file(f"task/{mm._pid}/stat")
        # Where stat alone proves the mm (see Mm), one system call does.
        maps_fd = -1 if mm._kept is None else self._file.fd
        self._look = mm.identity.pidfd, self._stat.fd, maps_fd, mm._fingerprint

    def close(self) -> None:
        """Close the files."""
        pagemap, self._pagemap, self._file = self._pagemap, None, None
        stat, self._stat, self._look = self._stat, None, None
        for file in (pagemap, stat):
            if file is not None:
                file.close()
        if self._pin is not None:
            self._pin.release()

    def ended(self) -> MmEnd | None:
        """Return how the mm ended, None while the process runs in it."""
        return self._mm.ended()

    def advise(
        self, vector: RangeArray, burst: Burst
    ) -> tuple[MmEnd | None, int, float]:
        """Advise ranges if the process still runs in the mm; nothing stands in between.

        Args:
            vector: One range moves on to the last of those that follow it.
            burst: Which do.

        Returns:
            How the mm ended if it does not; bytes of whole ranges advised, or
            -errno; seconds of the call. Of the last call, if others follow.
        """
        tally, look = self.tally, self._look
        assert look is not None
        ended = _mm.mm_advise(*look, vector, self._profile.advice, burst, tally)
        end = self._mm.end_of(ended) if ended else None
        return end, tally.result, tally.seconds

    def touch(self, pages: RangeArray) -> tuple[MmEnd | None, int]:
        """Read a byte of pages if the process still runs in the mm.

        Args:
            pages: A range each, at most TOUCH_MAX.

        Returns:
            How the mm ended if it does not; the pages read before the first that can't
            be read, or -errno.
        """
        mm, look = self._mm, self._look
        assert look is not None
        _, stat_fd, maps_fd, then = look
        ended, n_read = _mm.mm_touch(stat_fd, mm.identity.pid, maps_fd, then, pages)
        return mm.end_of(ended) if ended else None, n_read

    def require_touch(self) -> None:
        """Raise the refusal to read the target's pages, if any.

        Nothing is read: where a right is missing, that comes before the address.

        Raises:
            PermissionError: ptrace attach access is missing, or the right to find
                the pages that are in swap.
            ProcessLookupError: It has gone, or has exec'd since the latest maps().
            OSError: The kernel lacks the call (ENOSYS).
        """
        self.pagemap()
        _, result = Kernel.touch(self, RangeArray.of_one(0, PAGE_SIZE))
        if result < 0 and result != -errno.EFAULT:
            identity = self._mm.identity
            answer = of_process_vm_readv(identity.proc, -result)
            raise answer.error(f"process {identity.pid}: process_vm_readv(2)")

    def probe(self) -> int:
        """Return 0 if the target may be so advised, else -errno."""
        return probe(self._mm.identity.pidfd, self._profile.advice)

    def explain(self, number: int) -> OSError:
        """Return the exception for an errno of the system call."""
        return explain(self._mm.identity.pidfd, self._profile.advice, number)

    def is_user_address(self, address: int) -> bool:
        """Return whether an address is of user space.

        A zero-length range advises nothing but still fails with EFAULT outside user
        space.
        """
        nothing = RangeArray.of_one(address, 0)
        pidfd = self._mm.identity.pidfd
        return process_madvise(pidfd, nothing, self._profile.advice) != -errno.EFAULT

    def vmas_of(self, ranges: Ranges) -> VmaArray:
        """Return the VMAs that ranges touch, as they are now.

        Raises:
            ProcessLookupError: The process no longer runs in the mm.
        """
        return self._mm.vmas_of(ranges.merged()._array)

    def pagemap(self) -> Pagemap:
        """Return the pages of the mm; errors as Pagemap.

        Whether it is of this mm shows when the mm is looked at before the next call.
        """
        if self._pagemap is None:
            self._pagemap = Pagemap(self._mm, self._check, verify=False)
        return self._pagemap

    def pagemap_or_none(self) -> Pagemap | None:
        """Return the pages of the mm, None if they may not be read."""
        if not self._may_read_pages:
            return None
        try:
            return self.pagemap()
        except own(PermissionError):
            self._may_read_pages = False
            return None

    def resident(self, ranges: Ranges) -> Ranges:
        """Return the parts of ranges that are in memory, merged.

        Raises:
            ProcessLookupError: The process no longer runs in the mm.
        """
        return self.pagemap().resident(ranges)

    @property
    def huge_page_size(self) -> int:
        """Bytes of a huge page."""
        if self._huge_page_size is None:
            self._huge_page_size = huge_page_size()
        return self._huge_page_size

    def next_huge_page(self, start: int) -> int:
        """Return an address up to which no huge page is known from `start` on.

        Args:
            start: A multiple of the size of a huge page. It is the answer if there is
                a huge page.
        """
        pagemap = self.pagemap_or_none()
        if pagemap is None:
            return sys.maxsize
        return pagemap.next_huge_page(start, self.huge_page_size)


class Rehearsal(Kernel):
    """A kernel that advises nothing: a call has the result that is known beforehand.

    The kernel refuses mappings by their flags, and smaps shows these. Refusals that
    appear in the attempt alone (a pinned page, no free huge page) do not come.
    """

    def __init__(self, mm: Mm, profile: Profile, check: Check) -> None:
        super().__init__(mm, profile, check)
        self._refused: Ranges | None = None
        self._gone: Ranges | None = None
        """The memory that would have left by now; None where none leaves."""
        if profile.reclaims:
            from pmadvise.memory import Swap, swap_or_answer  # noqa: PLC0415 - not all

            found = swap_or_answer()  # where it is hidden: as on most hosts
            is_full = isinstance(found, Swap) and not found.free
            self._gone = None if is_full else Ranges()

    def advise(
        self, vector: RangeArray, burst: Burst
    ) -> tuple[MmEnd | None, int, float]:
        """Return the answer of Kernel.advise(), without the call; none follow."""
        del burst
        if end := self.ended():
            return end, 0, 0.0
        result = self._result(vector)
        self.tally.rehearse(max(result, 0))
        return None, result, 0.0

    def touch(self, pages: RangeArray) -> tuple[MmEnd | None, int]:
        """Return the answer of Kernel.touch(), without the call: all can be read."""
        return self.ended(), len(pages)

    def resident(self, ranges: Ranges) -> Ranges:
        """Return the parts of ranges that would be in memory by now, merged."""
        resident = super().resident(ranges)
        return resident if self._gone is None else resident - self._gone

    def _result(self, vector: RangeArray) -> int:
        """Return the bytes of the ranges before the first refused one, or -errno."""
        if self._refused is None:
            flags = self._profile.refused_flags
            self._refused = Ranges()
            if flags:
                self._refused = mappings_with_flags(self._mm, flags, self._check)
        ranges = Ranges._of_array(vector)
        overlaps = vector.overlap(self._refused._array)
        first = next((i for i, refused in enumerate(overlaps) if refused), len(ranges))
        taken = ranges[:first]
        if self._gone is not None:
            self._gone |= taken
        return taken.total if first else -errno.EINVAL
