"""csrc/batch.c: the vector of the next call."""

from __future__ import annotations

from pmadvise._native.base import IOV_MAX, ffi, lib
from pmadvise._native.ranges import RangeArray


class Batches:
    """Hand out ranges in order, in vectors for one call each.

    Args:
        array: The ranges to be handed out.
        start: Index of the first.
        stop: Index behind the last.
    """

    __slots__ = ("_array", "_index", "_offset", "_stop", "_vector")

    def __init__(self, array: RangeArray, start: int, stop: int) -> None:
        self._array, self._stop = array, stop
        self._index, self._offset = ffi.new("size_t *", start), ffi.new("size_t *")
        self._vector = ffi.new("struct pmadvise_range[]", min(stop - start, IOV_MAX))

    def next(
        self, max_bytes: int, max_element: int, alignment: int, capacity: int
    ) -> RangeArray:
        """Return the next vector, empty when no ranges are left.

        Its memory is used again by the next call.

        Args:
            max_bytes: The most bytes in all.
            max_element: The most bytes a range.
            alignment: Where a range is cut, the address of the cut is a multiple of
                this: a power of two, at least a page, at most `max_bytes` and
                `max_element`.
            capacity: The most ranges, up to IOV_MAX.
        """
        n = lib.pmadvise_batch(
            self._array.cdata,
            self._stop,
            self._index,
            self._offset,
            max_bytes,
            max_element,
            alignment,
            self._vector,
            min(capacity, len(self._vector)),
        )
        return RangeArray(self._vector, n)

    def position(self) -> tuple[int, int]:
        """Return where next() goes on: index of a range, and bytes into it."""
        return self._index[0], self._offset[0]

    def rest_of_range(self) -> int:
        """Return the bytes of the range in which the last vector was cut, or 0."""
        if self._offset[0] == 0:
            return 0
        return int(self._array.cdata[self._index[0]].length - self._offset[0])

    def resize_last(self, vector: RangeArray, length: int) -> None:
        """Make the last range of a vector longer or shorter, within its range.

        Args:
            vector: The one that next() returned last, cut: rest_of_range() is not 0.
            length: Bytes, more than 0.
        """
        last = vector.cdata[vector.n - 1]
        change = length - last.length
        last.length = length
        index, offset = self.position()
        self.rewind((index, offset + change), 0)

    def shorten(
        self, vector: RangeArray, n: int, last_length: int | None
    ) -> RangeArray:
        """Return the first ranges of a vector, the last of `last_length` bytes."""
        if last_length is not None:
            vector.cdata[n - 1].length = last_length
        return RangeArray(vector.cdata, n)

    def rewind(self, position: tuple[int, int], n_bytes: int) -> None:
        """Let next() go on `n_bytes` behind a position."""
        index, offset = position
        offset += n_bytes
        while index < self._stop and offset >= self._array.cdata[index].length:
            offset -= self._array.cdata[index].length
            index += 1
        self._index[0], self._offset[0] = index, offset
