"""Ranges: checks, layout and set algebra; needs no kernel feature."""

from __future__ import annotations

import copy
import pickle
import sys
from array import array
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import PAGE_SIZE, Ranges, _sys

SWAPPED = ">u8" if sys.byteorder == "little" else "<u8"
TOP = _sys.ADDRESS_MAX + 1

small_pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12)


@st.composite
def wide_pair(draw: st.DrawFn) -> tuple[int, int]:
    address = draw(st.integers(0, TOP - 1) | st.integers(TOP - 9, TOP - 1))
    return address, draw(st.integers(0, min(TOP - address, TOP - 1)))


wide_pairs = st.lists(wide_pair(), max_size=8)


def addresses(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {a for start, length in ranges for a in range(start, start + length)}


@given(wide_pairs)
def test_sequence_of_what_went_in(pairs: list[tuple[int, int]]) -> None:
    """Ranges is the sequence of the pairs it was made of."""
    ranges = Ranges(iter(pairs))
    assert (list(ranges), len(ranges)) == (pairs, len(pairs))
    assert [ranges[i] for i in range(-len(pairs), len(pairs))] == pairs + pairs


@given(wide_pairs)
def test_total(pairs: list[tuple[int, int]]) -> None:
    """Total is the sum of the lengths, beyond 64 bits too."""
    assert Ranges(pairs).total == sum(length for _, length in pairs)


@given(wide_pairs, wide_pairs)
def test_equality_and_hash(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    """Ranges are equal, and hash alike, by value and order."""
    assert (Ranges(a) == Ranges(b)) == (a == b)
    assert hash(Ranges(a)) == hash(Ranges(list(a)))


@given(wide_pairs, st.slices(8))
def test_slices(pairs: list[tuple[int, int]], cut: slice) -> None:
    """A slice of Ranges is the Ranges of the slice."""
    assert Ranges(pairs)[cut] == Ranges(pairs[cut])


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
    """Merging what is merged changes nothing, at the top of the addresses too."""
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
    """What is in both, and in one alone, add up, at the top of the addresses too."""
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
def test_split_at_page_borders(
    page_size: int, pairs: list[tuple[int, int]], scale: int, odd: int
) -> None:
    """Split covers the same addresses in order, cut at borders of 4 to 64 KiB pages."""
    longest = max((length for _, length in pairs), default=0)
    max_bytes = min(max(page_size, longest // scale + odd % page_size), TOP - 1)
    ranges = Ranges(pairs)
    pieces = list(
        Ranges._adopt(
            *_sys.ranges_split(ranges._array, len(pairs), max_bytes, page_size)
        )
    )
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


def test_split_keeps_what_is_short() -> None:
    """What is short enough is not cut, whatever its alignment."""
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


@pytest.mark.parametrize(
    ("pairs", "error", "words"),
    [
        ([(0, 1), (1.0, 1)], TypeError, r"ranges\[1\]: address 1.0 is not an int"),
        ([(0, "x")], TypeError, r"ranges\[0\]: length 'x' is not an int"),
        ([(None, 1)], TypeError, r"ranges\[0\]: address None is not an int"),
        ([(Decimal(1), 1)], TypeError, r"ranges\[0\]: address .* is not an int"),
        ([(0, Fraction(1))], TypeError, r"ranges\[0\]: length .* is not an int"),
        ([(0, 1), 7], TypeError, r"ranges\[1\] is 7"),
        ([(0, 1), (0, 1), None], TypeError, r"ranges\[2\] is None"),
        ([(0, 1), (0,)], ValueError, r"ranges\[1\] is \(0,\)"),
        ([(0, 1, 2)], ValueError, r"ranges\[0\] .* not 3 items"),
        ([()], ValueError, r"ranges\[0\] .* not 0 items"),
        (["ab"], TypeError, r"ranges\[0\]: address 'a'"),
        ([(0, 1), (-1, 1)], ValueError, r"ranges\[1\]: address -1 is negative"),
        ([(0, -5)], ValueError, r"ranges\[0\]: length -5 is negative"),
        ([(TOP, 0)], ValueError, r"ranges\[0\]: address 0x1"),
        ([(0, TOP)], ValueError, r"ranges\[0\]: length 0x1"),
        ([(0, 1), (TOP - 1, 2)], ValueError, r"ranges\[1\].* past the end"),
        ([(TOP - 4096, TOP - 4096)], ValueError, r"ranges\[0\].* past the end"),
    ],
)
def test_refuses(pairs: Any, error: type[Exception], words: str) -> None:
    """What is no pair of ints in the address space is refused, with its index."""
    with pytest.raises(error, match=words):
        Ranges(pairs)


def test_ends_at_the_very_top() -> None:
    """A range may end where the address space ends."""
    assert list(Ranges([(TOP - 1, 1)])) == [(TOP - 1, 1)]


def test_takes_anything_with_index() -> None:
    """Integers of numpy, and True, are ints."""
    ranges = Ranges([(np.uint64(4096), True)])  # type: ignore[list-item]
    assert list(ranges) == [(4096, 1)]


def test_not_iterable() -> None:
    """What is not iterable is a TypeError."""
    with pytest.raises(TypeError):
        Ranges(5)  # type: ignore[arg-type]


def test_pairs_that_are_read_once() -> None:
    """A pair that is itself an iterator is refused clearly, not half read."""
    with pytest.raises(ValueError, match=r"ranges\[0\] is <tuple_iterator"):
        Ranges([iter((0, 1))])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "make",
    [
        lambda words: array("Q", words),
        lambda words: array("L", words),
        lambda words: np.array(words, "u8").reshape(-1, 2),
        lambda words: Ranges([(1, 2), (3, 4)]).buffer,
    ],
    ids=["array-Q", "array-L", "numpy", "buffer"],
)
def test_from_buffer(make: Callable[[list[int]], object]) -> None:
    """Native uint64 pairs, flat or of shape (n, 2), become ranges."""
    assert Ranges.from_buffer(make([1, 2, 3, 4])) == Ranges([(1, 2), (3, 4)])


@pytest.mark.parametrize(
    ("buffer", "error", "words"),
    [
        (b"12345678" * 2, TypeError, "format 'B'"),
        (array("d", [1, 2]), TypeError, "format 'd'"),
        (array("q", [1, 2]), TypeError, "format 'q'"),
        (array("I", [1, 2]), TypeError, "format 'I'"),
        (
            np.array([[1, 2]], SWAPPED),
            TypeError,
            "format",
        ),
        ([1, 2], TypeError, "not list"),
        (None, TypeError, "not NoneType"),
        (array("Q", [1, 2, 3]), ValueError, r"shape \(3,\)"),
        (np.zeros((2, 3), "u8"), ValueError, r"shape \(2, 3\)"),
        (np.zeros((2, 2, 2), "u8"), ValueError, r"shape \(2, 2, 2\)"),
        (np.uint64(7), ValueError, r"shape \(\)"),
        (np.zeros((4, 4), "u8")[:, :2], ValueError, "contiguous"),
        (np.zeros((2, 2), "u8", order="F"), ValueError, "contiguous"),
        (array("Q", [0, 1, TOP - 1, 2]), ValueError, r"ranges\[1\]"),
    ],
)
def test_from_buffer_refuses(
    buffer: object, error: type[Exception], words: str
) -> None:
    """A buffer of anything but native uint64 pairs is refused, saying what it is."""
    with pytest.raises(error, match=words):
        Ranges.from_buffer(buffer)


def test_from_buffer_copies() -> None:
    """Ranges do not change with the buffer they were made of."""
    words = array("Q", [1, 2])
    ranges = Ranges.from_buffer(words)
    words[0] = 9
    words.append(1)
    assert ranges == Ranges([(1, 2)])


def test_buffer_is_read_only_and_outlives() -> None:
    """The buffer is a read-only view that keeps its memory."""
    view = Ranges([(1, 2), (3, 4)]).buffer
    assert view.readonly
    assert np.asarray(view).tolist() == [[1, 2], [3, 4]]


def test_empty() -> None:
    """No ranges are ranges."""
    empty = Ranges([])
    assert (len(empty), empty.total, list(empty)) == (0, 0, [])
    assert empty.merged() == empty | empty == empty & empty == empty - empty == empty
    assert Ranges.from_buffer(empty.buffer) == empty == Ranges(empty)
    assert Ranges.from_buffer(np.zeros((0, 2), "u8")) == empty


def test_copies_and_pickles() -> None:
    """Ranges can be copied and sent to another process."""
    ranges = Ranges([(1, 2), (TOP - 1, 1)])
    assert pickle.loads(pickle.dumps(ranges)) == copy.deepcopy(ranges) == ranges


def test_compares_with_ranges_alone() -> None:
    """A list is not equal to Ranges, and no operand of theirs."""
    assert Ranges([(1, 2)]) != [(1, 2)]
    with pytest.raises(TypeError):
        Ranges([]) | [(1, 2)]  # type: ignore[operator]


@pytest.mark.parametrize("index", [2, -3])
def test_index_error(index: int) -> None:
    """An index outside is an IndexError."""
    with pytest.raises(IndexError, match=str(index)):
        Ranges([(1, 2), (3, 4)])[index]


def test_repr() -> None:
    """The repr has hex addresses, and is one short line for 60,000 ranges too."""
    assert repr(Ranges([(4096, 16)])) == "Ranges([(0x1000, 0x10)])"
    long = repr(Ranges((i, 1) for i in range(60_000)))
    assert len(long) < 120
    assert "60000 ranges" in long
