"""Touch: pages that were read ahead, read once each, so that they are mapped."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Generator

from pmadvise._advise.kernel import Kernel
from pmadvise._advise.limits import Clock, Limits, of_caller
from pmadvise._advise.pacer import Pacer
from pmadvise._native.base import PAGE_SIZE
from pmadvise._native.mm import TOUCH_MAX
from pmadvise._native.ranges import Batches, RangeArray
from pmadvise.report import Ended

_RATE = 512 << 20
"""Bytes a second that pages in the swap cache allow: see Pacer."""
_UNREADABLE = frozenset({errno.EFAULT, errno.ENOMEM})


class Touch:
    """The reading of pages, in calls of bounded duration.

    Args:
        kernel: Answers about the target.
        pages: To be read, cut at the boundaries of VMAs.
        limits: Of the advise().
        clock: Since when.
        on_progress: Called with the bytes read or passed over so far.
    """

    def __init__(
        self,
        kernel: Kernel,
        pages: RangeArray,
        limits: Limits,
        clock: Clock,
        on_progress: Callable[[int], object] | None = None,
    ) -> None:
        self._kernel, self._pages, self._clock = kernel, pages, clock
        self._pacer = Pacer(limits.max_stall, _RATE, PAGE_SIZE)
        self._on_progress = on_progress
        self._passed = 0
        self.touched = 0
        """Bytes of the pages read."""

    def steps(self) -> Generator[float, None, Ended]:
        """Read call by call, without sleeping.

        A page that can't be read is passed over; where many follow each other, as
        behind the end of a file, ever more of them.

        Yields:
            The seconds to sleep before the next call: the target's turn.

        Returns:
            "complete", or why the rest was not tried.

        Raises:
            StopAdvising: A limit is reached.
        """
        batches = Batches(self._pages, 0, len(self._pages), are_cut=True)
        stride, index, locked = PAGE_SIZE, -1, 0.0
        while True:
            self._clock.check()
            position = batches.position()
            size, _ = self._pacer.size()
            pages = batches.next(size, PAGE_SIZE, PAGE_SIZE, TOUCH_MAX)
            if not len(pages):
                return "complete"
            begin = time.monotonic()
            ended, result = self._kernel.touch(pages)
            seconds = time.monotonic() - begin
            if ended is not None:
                return ended
            n_read = max(result, 0)
            if n_read:
                stride = PAGE_SIZE
                self.touched += n_read * PAGE_SIZE
                self._progress()
                self._pacer.observe(n_read * PAGE_SIZE, seconds)
                locked += seconds
                if pause := self._pacer.pause(locked):
                    locked = 0.0
                yield pause
            if n_read == len(pages):
                continue
            batches.rewind(position, n_read * PAGE_SIZE)
            if n_read or result == -errno.EINTR:
                continue  # the next call shows the errno of the next page
            if -result not in _UNREADABLE:
                return self._kernel.ended() or "refused"
            if position[0] != index:  # of this VMA nothing is known
                index, stride = position[0], PAGE_SIZE
            self._pass_over(batches, stride)
            stride *= 2

    def _progress(self) -> None:
        if self._on_progress is not None:
            of_caller(self._on_progress, self.touched + self._passed)

    def _pass_over(self, batches: Batches, n_bytes: int) -> None:
        """Go on behind some bytes, in the next VMA at the farthest."""
        index, offset = batches.position()
        n_bytes = min(n_bytes, self._pages.get(index)[1] - offset)
        batches.rewind((index, offset), n_bytes)
        self._passed += n_bytes
        self._progress()
