"""Aligned blocks that are filled, against a model; needs no kernel feature."""

from __future__ import annotations

import pytest
from helpers.range_strategies import TOP
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import Ranges

Pairs = list[tuple[int, int]]

pairs = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 30)), max_size=8)


def blocks(a: Pairs, b: Pairs, size: int, least: int) -> Pairs:
    """Return the blocks by the package."""
    array = Ranges(a).merged().array.blocks(Ranges(b).merged().array, size, least)
    return list(Ranges.of_array(array))


def model(a: Pairs, b: Pairs, size: int, least: int) -> Pairs:
    """Return the blocks, address by address."""
    inside = {i for start, length in a for i in range(start, start + length)}
    filled = {i for start, length in b for i in range(start, start + length)}
    found = [
        (block, size)
        for block in range(0, 128, size)
        if inside.issuperset(range(block, block + size))
        and len(filled.intersection(range(block, block + size))) >= least
    ]
    return list(Ranges(found).merged())


@given(pairs, pairs, st.sampled_from([1, 2, 4, 8, 16, 32]), st.integers(1, 33))
def test_blocks(a: Pairs, b: Pairs, size: int, least: int) -> None:
    """The blocks are the aligned ones within `a` that are filled enough by `b`."""
    assert blocks(a, b, size, least) == model(a, b, size, least)


@given(pairs, pairs, st.sampled_from([1, 2, 4, 8]), st.integers(1, 8))
def test_blocks_at_the_top(a: Pairs, b: Pairs, size: int, least: int) -> None:
    """Blocks at the end of the address space are found as elsewhere."""
    base = TOP - 128
    high = [
        [(base + start, min(length, 128 - start)) for start, length in ranges]
        for ranges in (a, b)
    ]
    low = [[(start, min(length, 128 - start)) for start, length in r] for r in (a, b)]
    assert blocks(high[0], high[1], size, least) == [
        (base + start, length) for start, length in model(low[0], low[1], size, least)
    ]


@pytest.mark.parametrize(
    ("filled", "found"),
    [
        ([(0, 7)], []),
        ([(0, 8)], [(0, 16)]),
        ([(0, 4), (12, 4)], [(0, 16)]),
        ([(12, 8)], []),
        ([(8, 16)], [(0, 32)]),
        ([(8, 48)], [(0, 64)]),
        ([(40, 24)], [(32, 32)]),
    ],
)
def test_half_filled(filled: Pairs, found: Pairs) -> None:
    """Blocks at least half filled are taken, counted over all their parts."""
    assert blocks([(0, 64)], filled, 16, 8) == found
