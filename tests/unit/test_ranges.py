"""Ranges as a checked sequence; needs no kernel feature."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from helpers.range_strategies import TOP, wide_pairs
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import Ranges


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
    """Anything but a pair of ints in the address space is refused, with its index."""
    with pytest.raises(error, match=words):
        Ranges(pairs)


def test_ends_at_the_very_top() -> None:
    """A range may end where the address space ends."""
    assert list(Ranges([(TOP - 1, 1)])) == [(TOP - 1, 1)]


def test_takes_anything_with_index() -> None:
    """Integers of numpy, and True, are ints."""
    ranges = Ranges([(np.uint64(4096), True)])  # type: ignore[list-item]
    assert list(ranges) == [(4096, 1)]


IN_A_CIRCLE = """
import gc
from pmadvise import Ranges

class Circle: pass

gc.disable()
for _ in range(50):
    iterator = iter(Ranges([(0, 1), (2, 1)]))
    next(iterator)
    circle = Circle()
    circle.circle, circle.iterator = circle, iterator
del circle, iterator
gc.collect()
"""


def test_an_iterator_in_a_circle() -> None:
    """An iterator that only the garbage collector frees is no crash of CPython."""
    # An exception has one, by its traceback, where it leaves a loop over a Ranges.
    done = subprocess.run([sys.executable, "-c", IN_A_CIRCLE], check=False, timeout=60)
    assert done.returncode == 0


def test_not_iterable() -> None:
    """An object that is not iterable is a TypeError."""
    with pytest.raises(TypeError):
        Ranges(5)  # type: ignore[arg-type]


def test_pairs_that_are_read_once() -> None:
    """A pair that is itself an iterator is refused clearly, not half read."""
    with pytest.raises(ValueError, match=r"ranges\[0\] is <tuple_iterator"):
        Ranges([iter((0, 1))])  # type: ignore[list-item]


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


class Changing:
    """An int that is another one each time it is asked for."""

    def __init__(self, *values: int) -> None:
        self.values = iter(values)

    def __index__(self) -> int:
        return next(self.values)


def test_pairs_that_change() -> None:
    """Pairs that are wrong when read first and right when read again are refused."""
    with pytest.raises(ValueError, match="changed while they were read"):
        Ranges([(Changing(-1, 0, 0), 4096)])  # type: ignore[list-item]
