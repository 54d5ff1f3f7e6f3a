"""Pairs (address, length), and the addresses that they cover."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from pmadvise._native.base import ADDRESS_MAX

TOP = ADDRESS_MAX + 1


small_pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12)


@st.composite
def wide_pair(draw: st.DrawFn) -> tuple[int, int]:
    """Return a pair from anywhere in the address space, the top preferred."""
    address = draw(st.integers(0, TOP - 1) | st.integers(TOP - 9, TOP - 1))
    return address, draw(st.integers(0, min(TOP - address, TOP - 1)))


wide_pairs = st.lists(wide_pair(), max_size=8)


def addresses(ranges: Iterable[tuple[int, int]]) -> set[int]:
    """Return every address that ranges cover."""
    return {a for start, length in ranges for a in range(start, start + length)}
