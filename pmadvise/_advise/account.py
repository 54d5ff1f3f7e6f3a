"""The account of an advise(): requested == advised + skipped + not tried."""

from __future__ import annotations

from collections.abc import Callable

from pmadvise import _reasons
from pmadvise.ranges import Ranges
from pmadvise.report import Skip


class Account:
    """The ranges asked for, and the outcome so far.

    Args:
        ranges: In the order asked.
        advice: For the reasons of skips.
        advised: Returns the bytes advised so far: counted beside the system call, so
            that no exception can come between the two.
        on_progress: Called with (bytes done, bytes in all).
    """

    def __init__(
        self,
        ranges: Ranges,
        advice: int,
        advised: Callable[[], int],
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self._ranges, self._advice = ranges, advice
        self._advised, self._on_progress = advised, on_progress
        self.requested = ranges.total
        self.skipped: list[Skip] = []
        self._skipped_bytes = 0
        self._range_index = 0
        self._range_offset = 0  # bytes of the ranges before that one

    @property
    def done(self) -> int:
        """Bytes advised or skipped."""
        return self._advised() + self._skipped_bytes

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be tried."""
        return self.done >= self.requested

    def skip(self, address: int, length: int, number: int) -> None:
        """Add a range that could not be advised.

        It is joined to the last one if that is of the same range asked for, adjacent
        and of the same errno.
        """
        before = self.done
        while self._range_offset + self._ranges[self._range_index][1] <= before:
            self._range_offset += self._ranges[self._range_index][1]
            self._range_index += 1
        last = self.skipped[-1] if self.skipped else None
        reason = _reasons.of_range(self._advice, number)
        if (
            last is not None
            and last.address + last.length == address
            and last.errno == number
            and before > self._range_offset
        ):
            joined = Skip(last.address, last.length + length, number, reason)
            self.skipped[-1] = joined
        else:
            self.skipped.append(Skip(address, length, number, reason))
        self._skipped_bytes += length
        self.progress()

    def progress(self) -> None:
        """Inform the caller."""
        if self._on_progress is not None:
            self._on_progress(self.done, self.requested)
