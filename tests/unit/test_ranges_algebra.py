"""Merging, set algebra and splitting of Ranges; needs no kernel feature."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from helpers.range_strategies import TOP, addresses, small_pairs, wide_pairs
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import PAGE_SIZE, Ranges


@given(small_pairs)
def test_merged(pairs: list[tuple[int, int]]) -> None:
    """Merged ranges have the same addresses, in order, with gaps between them."""
    merged = list(Ranges(pairs).merged())
    assert addresses(merged) == addresses(pairs)
    ends = [start + length for start, length in merged]
    assert all(length > 0 for _, length in merged)
    assert all(
        end < start for end, (start, _) in zip(ends[:-1], merged[1:], strict=True)
    )


@given(wide_pairs)
def test_merged_is_idempotent_at_the_top(pairs: list[tuple[int, int]]) -> None:
    """Merging merged ranges changes nothing, at the top of the addresses too."""
    merged = Ranges(pairs).merged()
    assert merged.merged() == merged
    assert merged.total <= TOP


@given(small_pairs, small_pairs)
def test_set_algebra(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    """The operators are those of sets of addresses, and give merged ranges."""
    x, y = addresses(a), addresses(b)
    results = Ranges(a) & Ranges(b), Ranges(a) | Ranges(b), Ranges(a) - Ranges(b)
    assert tuple(map(addresses, results)) == (x & y, x | y, x - y)
    assert all(result == result.merged() for result in results)


@given(wide_pairs, wide_pairs)
def test_set_identities(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    """Intersection and difference add up, at the top of the addresses too."""
    x, y = Ranges(a), Ranges(b)
    both, only = (x & y).total, (x - y).total
    assert both + only == x.merged().total
    assert (x | y).total == only + y.merged().total
    assert ((x - y) & y).total == 0


def test_the_whole_address_space() -> None:
    """All of 2**64 bytes do not fit into one range, and none is lost."""
    whole = Ranges([(0, TOP - 1), (TOP - 1, 1)]).merged()
    assert (whole.total, whole.merged()) == (TOP, whole)
    assert (whole - Ranges([(0, TOP - 1)])) == Ranges([(TOP - 1, 1)])


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
@given(pairs=wide_pairs, scale=st.integers(1, 70), odd=st.integers(0, 65535))
def test_split_at_page_boundaries(
    page_size: int, pairs: list[tuple[int, int]], scale: int, odd: int
) -> None:
    """Split covers the same addresses, cut at boundaries of 4 to 64 KiB pages."""
    longest = max((length for _, length in pairs), default=0)
    max_bytes = min(max(page_size, longest // scale + odd % page_size), TOP - 1)
    ranges = Ranges(pairs)
    pieces = list(Ranges.of_array(ranges.array.split(max_bytes, page_size)))
    rebuilt: list[tuple[int, int]] = []
    left = 0
    for address, length in pieces:
        assert length <= max_bytes
        if left:
            last_address, last_length = rebuilt[-1]
            assert (address, address % page_size) == (last_address + last_length, 0)
            rebuilt[-1] = last_address, last_length + length
        else:
            left = pairs[len(rebuilt)][1]
            rebuilt.append((address, length))
        left -= length
    assert rebuilt == pairs


def test_split_keeps_short_ranges() -> None:
    """A range that is short enough is not cut, whatever its alignment."""
    ranges = Ranges([(1, PAGE_SIZE), (0, 2 * PAGE_SIZE), (7, 0)])
    assert ranges.split(2 * PAGE_SIZE) == ranges


def test_split_of_nothing_smaller_than_a_page() -> None:
    """A limit below a page is refused, with its value."""
    with pytest.raises(ValueError, match=f"max_bytes is {PAGE_SIZE - 1}"):
        Ranges([]).split(PAGE_SIZE - 1)


def test_split_into_more_than_memory_holds() -> None:
    """Pieces without number raise MemoryError, and do not crash."""
    with pytest.raises((MemoryError, OverflowError)):
        Ranges([(0, TOP - 1)]).split(PAGE_SIZE)


@pytest.mark.parametrize("operation", [operator.and_, operator.or_, operator.sub])
def test_with_something_else(operation: Callable[[object, object], object]) -> None:
    """Set algebra is of Ranges alone."""
    with pytest.raises(TypeError, match="Ranges"):
        operation(Ranges(), [(0, 1)])
