"""Fit the vector of a call into a budget of bytes."""

from __future__ import annotations

from collections.abc import Callable

from pmadvise._native.base import PAGE_SIZE
from pmadvise.ranges import Ranges


class Budget:
    """Bytes that may still be used up.

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
        self._used = 0

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left."""
        return self._used >= self._limit

    def fit(self, vector: Ranges) -> tuple[int, int | None, list[int], bool]:
        """Return how much of a vector may be advised.

        Returns:
            The number of ranges; bytes of the last of them, None if it is whole; the
            bytes of each that count; whether this is less than all.
        """
        counted = self._count(vector)
        each = vector.array.overlap(counted.array)
        left = self._limit - self._used
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
            self._used += value


def _prefix(one: Ranges, counted: Ranges, left: int) -> int:
    """Return the length of the first part of a range in which `left` bytes count."""
    left -= left % PAGE_SIZE
    parts = iter(counted & one)  # more than `left` bytes
    start, length = next(parts)
    while length <= left:
        left -= length
        start, length = next(parts)
    return start + left - one[0][0]
