"""csrc/ranges.c: arrays of ranges, which the kernel reads in place, and batches."""

from __future__ import annotations

import struct

from pmadvise._native.base import IOV_MAX, NULL, ffi, lib, uninitialized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RANGE_SIZE = struct.calcsize("@NN")


class RangeArray:
    """A native ``struct pmadvise_range[]``, laid out as ``struct iovec[]``.

    It owns its memory. Nobody writes to one that a Ranges has.
    """

    __slots__ = ("cdata", "n")

    def __init__(self, cdata: Any, n: int) -> None:
        self.cdata, self.n = cdata, n

    def __len__(self) -> int:
        return self.n

    @classmethod
    def empty(cls) -> RangeArray:
        """Return an array of no ranges."""
        return cls(ffi.new("struct pmadvise_range[]", 0), 0)

    @classmethod
    def of_one(cls, address: int, length: int) -> RangeArray:
        """Return an array of one range."""
        return cls(ffi.new("struct pmadvise_range[]", [(address, length)]), 1)

    @classmethod
    def joined(cls, arrays: list[RangeArray]) -> RangeArray:
        """Return the ranges of several arrays, sorted and joined."""
        n = 0
        out = uninitialized("struct pmadvise_range[]", sum(map(len, arrays)))
        for array in arrays:
            ffi.memmove(out + n, array.cdata, array.n * _RANGE_SIZE)
            n += array.n
        return cls(out, lib.pmadvise_ranges_merge(out, n))

    @classmethod
    def from_buffer(cls, buffer: memoryview, n: int) -> RangeArray:
        """Return a copy of `n` native pairs."""
        array = cls(uninitialized("struct pmadvise_range[]", n), n)
        ffi.memmove(array.cdata, buffer, n * _RANGE_SIZE)
        return array

    @classmethod
    def from_columns(cls, addresses: list[int], lengths: list[int]) -> RangeArray:
        """Return an array of two columns.

        Raises:
            struct.error: A value is not an int, or does not fit into an address.
        """
        n = len(addresses)
        array = cls(uninitialized("struct pmadvise_range[]", n), n)
        column = f"@{n}N"
        lib.pmadvise_ranges_fill(
            array.cdata,
            ffi.from_buffer("uintptr_t[]", struct.pack(column, *addresses)),
            ffi.from_buffer("size_t[]", struct.pack(column, *lengths)),
            n,
        )
        return array

    def copy(self, start: int, n: int) -> RangeArray:
        """Return a new array of the `n` ranges from index `start` on."""
        copy = RangeArray(uninitialized("struct pmadvise_range[]", n), n)
        ffi.memmove(copy.cdata, self.cdata + start, n * _RANGE_SIZE)
        return copy

    def buffer(self) -> memoryview:
        """Return the bytes in place, read-only."""
        return memoryview(ffi.buffer(self.cdata, self.n * _RANGE_SIZE)).toreadonly()

    def get(self, index: int) -> tuple[int, int]:
        """Return address and length of one range."""
        element = self.cdata[index]
        return element.address, element.length

    def total(self) -> int:
        """Return the sum of the lengths, however large."""
        if self.n == 1:  # most vectors of a call
            return int(self.cdata[0].length)
        total = ffi.new("uint64_t[2]")
        lib.pmadvise_ranges_total(self.cdata, self.n, total)
        return int(total[1] << 64 | total[0])

    def first_wrapping(self) -> int:
        """Return the index of the first that runs past the last address, or len()."""
        return lib.pmadvise_ranges_first_wrapping(self.cdata, self.n)

    def first_refused(self) -> int:
        """Return the index of the first that a call would not take whole, or len()."""
        return lib.pmadvise_ranges_first_refused(self.cdata, self.n)

    def first_unaligned(self) -> int:
        """Return the index of the first that is not page-aligned, or len()."""
        return lib.pmadvise_ranges_first_unaligned(self.cdata, self.n)

    def overlap(self, merged: RangeArray) -> list[int]:
        """Return how many bytes of each range lie in merged ranges."""
        overlap = ffi.new("size_t[]", self.n)
        lib.pmadvise_ranges_overlap(self.cdata, self.n, merged.cdata, merged.n, overlap)
        return list(overlap)

    def merge(self, other: RangeArray | None = None) -> RangeArray:
        """Return these and the other ranges sorted and joined."""
        n = self.n + (other.n if other is not None else 0)
        merged = RangeArray(uninitialized("struct pmadvise_range[]", n), n)
        ffi.memmove(merged.cdata, self.cdata, self.n * _RANGE_SIZE)
        if other is not None:
            ffi.memmove(merged.cdata + self.n, other.cdata, other.n * _RANGE_SIZE)
        merged.n = lib.pmadvise_ranges_merge(merged.cdata, n)
        return merged

    def intersect(self, other: RangeArray) -> RangeArray:
        """Return the addresses in both; both are merged."""
        return self._combine(lib.pmadvise_ranges_intersect, other)

    def subtract(self, other: RangeArray) -> RangeArray:
        """Return the addresses in this one alone; both are merged."""
        return self._combine(lib.pmadvise_ranges_subtract, other)

    def _combine(self, function: Any, other: RangeArray) -> RangeArray:
        out = uninitialized("struct pmadvise_range[]", self.n + other.n)
        n = function(self.cdata, self.n, other.cdata, other.n, out)
        return RangeArray(out, n)

    def blocks(self, filled: RangeArray, size: int, least: int) -> RangeArray:
        """Return the aligned blocks that lie whole in these ranges and are filled.

        Args:
            filled: Both are merged.
            size: Bytes of a block, a power of two.
            least: Bytes of a block that lie in `filled`, at least; more than 0.
        """
        out = uninitialized("struct pmadvise_range[]", self.n + filled.n)
        n = lib.pmadvise_ranges_blocks(
            self.cdata, self.n, filled.cdata, filled.n, size, least, out
        )
        return RangeArray(out, n)

    def split(self, max_bytes: int, page_size: int) -> RangeArray:
        """Return the ranges cut at page boundaries, none longer than `max_bytes`."""
        n = lib.pmadvise_ranges_split(self.cdata, self.n, max_bytes, page_size, NULL)
        out = uninitialized("struct pmadvise_range[]", n)
        lib.pmadvise_ranges_split(self.cdata, self.n, max_bytes, page_size, out)
        return RangeArray(out, n)


class Batches:
    """Hand out ranges in order, in vectors for one call each.

    Args:
        array: The ranges to be handed out.
        start: Index of the first.
        stop: Index behind the last.
        are_cut: Whether elements are so short that a range makes many of a call.
    """

    __slots__ = ("_array", "_index", "_offset", "_stop", "_vector")

    def __init__(
        self, array: RangeArray, start: int, stop: int, are_cut: bool = False
    ) -> None:
        self._array, self._stop = array, stop
        self._index, self._offset = ffi.new("size_t *", start), ffi.new("size_t *")
        capacity = IOV_MAX if are_cut else min(stop - start, IOV_MAX)
        self._vector = ffi.new("struct pmadvise_range[]", capacity)

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
        n = lib.pmadvise_ranges_batch(
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
