"""Account, budget and cuts of an advise(): requested == advised + skipped + untried."""

from __future__ import annotations

from collections.abc import Callable

from pmadvise import _reasons
from pmadvise._advise.limits import of_caller
from pmadvise._native.base import MAX_RW_COUNT, PAGE_SIZE
from pmadvise._native.maps import VmaArray
from pmadvise._native.ranges import Batches, RangeArray
from pmadvise.ranges import Ranges
from pmadvise.report import Skip


class Cut:
    """Ranges cut at the boundaries of VMAs, and how far they were worked through."""

    __slots__ = ("_are_cut", "_at", "_mapped", "_pieces", "batches", "is_current")

    def __init__(
        self, vmas: VmaArray, array: RangeArray, is_current: bool, max_element: int
    ) -> None:
        self._pieces, self._mapped = vmas.cut(array)
        self._are_cut = max_element < MAX_RW_COUNT
        self._at = 0
        self.is_current = is_current
        self.batches: Batches | None = None

    def is_one_vma(self) -> bool:
        """Return whether all of it lies in one VMA."""
        return self._mapped == b"\1"

    def next_hole(self) -> tuple[int, int] | None:
        """Return the next piece if nothing is mapped there, and go on behind it.

        Else None: then `batches` has the mapped pieces up to the next hole, and is None
        at the end.
        """
        if self.batches is not None:
            return None
        if self._at == len(self._pieces):
            return None
        if not self._mapped[self._at]:
            self._at += 1
            return self._pieces.get(self._at - 1)
        hole = self._mapped.find(0, self._at)
        stop = len(self._pieces) if hole < 0 else hole
        self.batches = Batches(self._pieces, self._at, stop, self._are_cut)
        self._at = stop
        return None


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
        self._skip_index = -1  # of the range that the last skip is of
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
            and self._skip_index == self._range_index
        ):
            joined = Skip(last.address, last.length + length, number, reason)
            self.skipped[-1] = joined
        else:
            self.skipped.append(Skip(address, length, number, reason))
        self._skip_index = self._range_index
        self._skipped_bytes += length
        self.progress()

    def progress(self) -> None:
        """Inform the caller."""
        if self._on_progress is not None:
            of_caller(self._on_progress, self.done, self.requested)


class Budget:
    """The bytes that may still be used up, and those that were.

    Args:
        limit: Bytes.
        count: Returns the parts of ranges that count.
        whole_elements: Take a range whole or not at all.
    """

    def __init__(
        self, limit: int, count: Callable[[Ranges], Ranges], whole_elements: bool
    ) -> None:
        self._limit, self._count = limit, count
        self._whole_elements = whole_elements
        self.used = 0
        """Bytes used up, as they count."""

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left."""
        return self.used >= self._limit

    def fit(self, vector: Ranges) -> tuple[int, int | None, list[int], bool]:
        """Return how much of a vector may be advised.

        Returns:
            The number of ranges; bytes of the last of them, None if it is whole; the
            bytes of each that count; whether this is less than all.
        """
        counted = self._count(vector)
        each = vector._array.overlap(counted._array)
        left = self._limit - self.used
        for index, n_bytes in enumerate(each):
            if n_bytes > left:
                length = 0
                if not self._whole_elements:
                    length = _prefix(vector[index : index + 1], counted, left)
                n_ranges = index + (length > 0)
                return n_ranges, length or None, [*each[:index], left], True
            left -= n_bytes
        return len(vector), None, each, False

    def use(self, vector: Ranges, counted: list[int], n_bytes: int) -> None:
        """Take the ranges that make up the first `n_bytes` of a vector from it."""
        for (_, length), value in zip(vector, counted, strict=False):
            if n_bytes < length:
                break
            n_bytes -= length
            self.used += value


def _prefix(single: Ranges, counted: Ranges, left: int) -> int:
    """Return the length of the first part of a range in which `left` bytes count."""
    left -= left % PAGE_SIZE
    parts = iter(counted & single)  # more than `left` bytes
    start, length = next(parts)
    while length <= left:
        left -= length
        start, length = next(parts)
    return start + left - single[0][0]
