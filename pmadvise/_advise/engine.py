"""Engine: ranges split into process_madvise(2) calls of bounded duration."""

from __future__ import annotations

import errno
from collections.abc import Generator

from pmadvise._advise.account import Account, Budget, Cut
from pmadvise._advise.kernel import Kernel
from pmadvise._advise.limits import Clock, Limits, StopAdvising
from pmadvise._advise.pacer import Pacer
from pmadvise._advise.profiles import Profile
from pmadvise._handle.mm import MmEnd
from pmadvise._native.base import IOV_MAX
from pmadvise._native.maps import VmaArray
from pmadvise._native.mm import Burst
from pmadvise._native.ranges import Batches, RangeArray
from pmadvise._origin import own
from pmadvise.ranges import Ranges
from pmadvise.report import Ended

# Errnos that may be about the whole call rather than about one range.
_OF_THE_CALL = frozenset(
    {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ESRCH}
)
_LOST_RIGHT = frozenset({errno.EACCES, errno.EPERM})
_LOOK_INTERVAL = 0.001
"""Seconds without a call after which the target is looked at again."""


class Engine:
    """One advise(), as a list of work: no target can make it recurse.

    Args:
        kernel: Answers about the target.
        ranges: Page-aligned, in the order to be advised.
        profile: Of an advice that the kernel takes.
        limits: When to stop.
        clock: Since when.
    """

    def __init__(
        self,
        kernel: Kernel,
        ranges: Ranges,
        profile: Profile,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._kernel, self._ranges = kernel, ranges
        self._profile, self._clock = profile, clock
        self._max_element = profile.max_element()
        self._pacer = Pacer(
            limits.max_stall,
            profile.max_rate,
            self._max_element,
            kernel.huge_page_size,
        )
        self._budget: Budget | None = None
        if limits.budget is not None:
            self._budget = Budget(limits.budget, self._counted, profile.whole_elements)
        self.account = Account(
            ranges, profile.advice, lambda: kernel.tally.advised, limits.on_progress
        )
        ends = (limits.budget, limits.cancel, limits.timeout)
        self._has_limits = any(end is not None for end in ends)
        self._burst = Burst()
        self._sleeps = False
        # Each call is told to on_progress, and looked at with a budget.
        self._may_burst = limits.on_progress is None and limits.budget is None
        self._huge_page = kernel.huge_page_size
        self._huge_from = self._huge_until = 0
        self._is_huge = False
        """Whether a huge page covers these addresses, or none does."""
        self._capacity = IOV_MAX
        self._looked = 0.0
        self._highest_user = self._lowest_other = -1

    @property
    def counted(self) -> int:
        """Bytes that the budget counts, so far; 0 without a budget."""
        return self._budget.used if self._budget is not None else 0

    def steps(
        self, vmas: VmaArray | None = None, *, sleeps: bool = False
    ) -> Generator[float, None, Ended]:
        """Advise call by call.

        Args:
            vmas: The mappings that the ranges were selected from; None to look.
            sleeps: Make the pauses between calls that follow each other, rather than
                yield them.

        Yields:
            The seconds to sleep before the next call: the target's turn.

        Returns:
            "complete", or why the rest was not tried.

        Raises:
            OSError: The kernel's refusal of the whole call, after all.
            BaseException: Whatever `on_progress` or a signal handler raises.
        """
        self._sleeps = sleeps
        try:
            self._check()
            work = [self._cut(self._ranges, vmas)]
            while work:
                cut = work[-1]
                if hole := cut.next_hole():
                    self._check()
                    if cut.is_current:
                        self._skip_unmapped(*hole)
                    else:
                        work.append(self._cut(Ranges([hole])))
                elif cut.batches is None:
                    work.pop()
                else:
                    again, pause = self._advise_next(cut, cut.batches)
                    if again is not None:
                        work.append(again)
                    yield pause
            self._look()
        except StopAdvising as early:
            return early.ended
        except own(ProcessLookupError):  # it went while /proc was read
            end = self._kernel.ended()
            if end is None:
                raise
            return end
        return "complete"

    def _cut(self, ranges: Ranges, vmas: VmaArray | None = None) -> Cut:
        is_current = vmas is None
        if vmas is None:
            vmas = self._kernel.vmas_of(ranges)
        return Cut(vmas, ranges._array, is_current, self._max_element)

    def _check_limits(self) -> None:
        """End the work if a limit is reached."""
        if self._has_limits and not self.account.is_complete:
            self._clock.check()
            if self._budget is not None and self._budget.is_used_up:
                raise StopAdvising("budget")

    def _check(self) -> None:
        """End the work if a limit is reached or the target has gone."""
        self._check_limits()
        if self._clock.elapsed() - self._looked > _LOOK_INTERVAL:
            self._look()

    def _look(self) -> None:
        self._looked = self._clock.elapsed()
        self._stop_if(self._kernel.ended())

    def _stop_if(self, end: MmEnd | None) -> None:
        if end is not None:
            raise StopAdvising(end)

    def _skip_unmapped(self, address: int, length: int) -> None:
        """Account for a hole; find out whether it lies outside of user space."""
        if address > self._highest_user and not 0 <= self._lowest_other <= address:
            if self._kernel.is_user_address(address):
                self._highest_user = address
            else:
                self._lowest_other = address
        outside = address > self._highest_user
        self.account.skip(address, length, errno.EFAULT if outside else errno.ENOMEM)

    def _advise_next(self, cut: Cut, batches: Batches) -> tuple[Cut | None, float]:
        """Make one call; return pieces to look at again, and the pause behind it.

        A call of 512 KiB takes half a millisecond: what stands here costs a part of
        that each time. The kernel is looked at with the call.
        """
        self._check_limits()
        position = batches.position()
        vector = self._next_vector(batches)
        if vector is None:
            cut.batches = None
            return None, 0.0
        counted: list[int] = []
        is_cut = False
        if self._budget is not None:
            n_ranges, last_length, counted, is_cut = self._budget.fit(
                Ranges._of_array(vector)
            )
            if n_ranges == 0:
                raise StopAdvising("budget")
            if is_cut:
                vector = batches.shorten(vector, n_ranges, last_length)
                batches.rewind(position, vector.total())
        asked = vector.total()
        first = self._set_burst(vector, batches)
        end, result, seconds = self._kernel.advise(vector, self._burst)
        self._stop_if(end)
        if followed := vector.get(0)[0] - first:
            position = position[0], position[1] + followed
            batches.rewind(position, asked)
        if result > 0:
            self._pacer.observe(result, seconds)
            if self._budget is not None:
                self._budget.use(Ranges._of_array(vector), counted, result)
            self.account.progress()
        if pause := self._pacer.pause(self._kernel.tally.locked):
            self._kernel.tally.turn()
        if result != asked:
            return self._go_on_after(result, vector, batches, position), pause
        if is_cut:
            raise StopAdvising("budget")
        self._capacity = IOV_MAX
        return None, pause

    def _set_burst(self, vector: RangeArray, batches: Batches) -> int:
        """Let calls of the same length follow with that for a vector; return where.

        They end where Python has to look: at a huge page that may be cut, at a pause
        that is to be yielded, at a call that does not take all or that is to be
        followed by one of another length.
        """
        address, length = vector.get(0)
        more = 0
        if self._may_burst and len(vector) == 1 and length == self._pacer.size()[0]:
            rest, end = batches.rest_of_range(), address + length
            if self._profile.splits_huge_pages:
                is_known = self._huge_from <= end and not self._is_huge
                rest = min(rest, self._huge_until - end) if is_known else 0
            more = max(rest // length, 0)
        if more:
            burst = self._pacer.burst(self._clock.left(), self._sleeps)
            self._burst.set(more, *burst)
        else:
            self._burst.set(0)
        return address

    def _go_on_after(
        self,
        result: int,
        vector: RangeArray,
        batches: Batches,
        position: tuple[int, int],
    ) -> Cut | None:
        """Go on after a call that did not take all; return pieces to look at again."""
        if result > 0:  # the next range alone will show its errno
            batches.rewind(position, result)
            self._capacity = 1
            return None
        if len(vector) > 1:  # EFAULT is of any of them, all else of the first
            batches.rewind(position, 0)
            self._capacity = len(vector) // 2 if result == -errno.EFAULT else 1
            return None
        self._capacity = IOV_MAX
        return self._on_refusal(*vector.get(0), -result)

    def _next_vector(self, batches: Batches) -> RangeArray | None:
        size, alignment = self._pacer.size()
        position = batches.position()
        max_element = min(size, self._max_element)
        vector = batches.next(size, max_element, alignment, self._capacity)
        if not len(vector):
            return None
        if self._profile.splits_huge_pages and batches.rest_of_range():
            self._spare_huge_page(batches, vector, position)
        return vector

    def _spare_huge_page(
        self, batches: Batches, vector: RangeArray, position: tuple[int, int]
    ) -> None:
        """Move the end of a vector out of a huge page, which it would split."""
        address, length = vector.get(len(vector) - 1)
        end = address + length
        start = end & -self._huge_page
        if start == end:
            return
        if not self._huge_from <= start < self._huge_until:
            until = self._kernel.next_huge_page(start)
            self._is_huge = until <= start
            self._huge_from = start
            self._huge_until = max(until, start + self._huge_page)
        if not self._is_huge:
            return
        if start > address:
            batches.resize_last(vector, start - address)
        elif len(vector) > 1:
            vector.n -= 1
            batches.rewind(position, vector.total())
        else:
            more = start + self._huge_page - end
            batches.resize_last(vector, length + min(more, batches.rest_of_range()))

    def _on_refusal(self, address: int, length: int, number: int) -> Cut | None:
        """Account for a range that the kernel refused when asked for it alone.

        Returns:
            The range, cut anew, if the target has mapped something else there since.
        """
        self._look()
        if number in _OF_THE_CALL:
            answer = self._kernel.probe()
            if answer < 0:
                self._look()
                if -answer in _LOST_RIGHT and self._kernel.tally.advised:
                    raise StopAdvising("refused")
                raise self._kernel.explain(-answer)
        cut = self._cut(Ranges([(address, length)]))
        if not cut.is_one_vma():
            return cut
        self.account.skip(address, length, number or errno.EIO)
        return None

    def _counted(self, vector: Ranges) -> Ranges:
        """Return the parts of a vector that a budget counts."""
        resident = self._kernel.resident(vector)
        if self._profile.budget_counts_resident:
            return resident
        return vector - resident
