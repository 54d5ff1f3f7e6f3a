"""Ranges against sets of pages, in any sequence of operations; needs no kernel."""

from __future__ import annotations

import array
import operator
import pickle

import pytest
from helpers.range_strategies import addresses, small_pairs
from helpers.stress_machines import find_failure, run_machine
from helpers.stress_rounds import Stress
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    rule,
)

from pmadvise import PAGE_SIZE, Ranges

Pairs = list[tuple[int, int]]
Known = tuple[Ranges, Pairs]
"""A Ranges, and what it must be: in pages."""


def scaled(pairs: Pairs) -> Pairs:
    """Return pages as bytes."""
    return [(a * PAGE_SIZE, n * PAGE_SIZE) for a, n in pairs]


def known(ranges: Ranges) -> Pairs:
    """Return what a result is, in pages."""
    assert all(a % PAGE_SIZE == n % PAGE_SIZE == 0 for a, n in ranges)
    return [(a // PAGE_SIZE, n // PAGE_SIZE) for a, n in ranges]


def of_set(pages: set[int]) -> Pairs:
    """Return merged pairs of a set of pages."""
    pairs: Pairs = []
    for page in sorted(pages):
        if pairs and sum(pairs[-1]) == page:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] + 1)
        else:
            pairs.append((page, 1))
    return pairs


class RangesMachine(RuleBasedStateMachine):
    """Each Ranges is kept, and must be what it was made to be to the end."""

    all = Bundle("all")

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Known] = []

    def keep(self, ranges: Ranges, pairs: Pairs) -> Known:
        assert list(ranges) == scaled(pairs)
        assert ranges.total == sum(n for _, n in pairs) * PAGE_SIZE
        self.made.append((ranges, pairs))
        return ranges, pairs

    @rule(target=all, pairs=small_pairs)
    def make(self, pairs: Pairs) -> Known:
        return self.keep(Ranges(scaled(pairs)), pairs)

    @rule(target=all, pairs=small_pairs)
    def of_buffer(self, pairs: Pairs) -> Known:
        flat = array.array("Q", [word for pair in scaled(pairs) for word in pair])
        ranges = Ranges.from_buffer(flat)
        flat[:] = array.array("Q", bytes(len(flat) * 8))  # it is a copy
        return self.keep(ranges, pairs)

    @rule(
        target=all,
        one=all,
        other=all,
        do=st.sampled_from([operator.and_, operator.or_, operator.sub]),
    )
    def combine(self, one: Known, other: Known, do: object) -> Known:
        assert callable(do)
        pages = do(addresses(one[1]), addresses(other[1]))
        return self.keep(do(one[0], other[0]), of_set(pages))

    @rule(target=all, one=all)
    def merge(self, one: Known) -> Known:
        return self.keep(one[0].merged(), of_set(addresses(one[1])))

    @rule(target=all, one=all, n=st.integers(1, 20))
    def split(self, one: Known, n: int) -> Known:
        pairs = [
            (at, min(n, start + length - at))
            for start, length in one[1]
            for at in range(start, start + length, n)
        ]
        found = one[0].split(n * PAGE_SIZE + PAGE_SIZE // 2)
        # Where an empty range goes is not what this is about.
        assert [pair for pair in known(found) if pair[1]] == pairs
        return self.keep(found, known(found))

    @rule(target=all, one=all, part=st.slices(12))
    def cut(self, one: Known, part: slice) -> Known:
        return self.keep(one[0][part], one[1][part])

    @rule(target=all, one=all)
    def copy(self, one: Known) -> Known:
        ranges = pickle.loads(pickle.dumps(one[0]))
        assert (ranges, hash(ranges)) == (one[0], hash(one[0]))
        return self.keep(ranges, one[1])

    @rule(one=all, other=all)
    def compare(self, one: Known, other: Known) -> None:
        assert (one[0] == other[0]) == (one[1] == other[1])

    def teardown(self) -> None:
        for ranges, pairs in self.made:
            assert list(ranges) == scaled(pairs)


def test_ranges_machine(stress: Stress) -> None:
    """Any sequence of operations gives what it gives for sets of pages."""
    run_machine(stress, RangesMachine, short=60, long=1000)


def test_the_machine_finds_a_lost_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ranges that forgets a page is found out."""
    monkeypatch.setattr(Ranges, "__or__", lambda one, other: one.merged())
    with pytest.raises(AssertionError):
        find_failure(RangesMachine)
