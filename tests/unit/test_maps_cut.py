"""Ranges cut at the boundaries of VMAs; needs no kernel feature."""

from __future__ import annotations

from helpers.maps_model import (
    PAGE,
    TOP,
    Line,
    address_spaces,
    any_lines,
    cut,
    space_of,
    text_of,
)
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import Ranges


def pieces_of(
    lines: list[Line], pairs: list[tuple[int, int]]
) -> list[tuple[int, int, bool]]:
    """Return the pieces, and whether each is mapped."""
    array, mapped = space_of(text_of(lines)).cut(Ranges(pairs).array)
    return [
        (address, length, bool(is_mapped))
        for (address, length), is_mapped in zip(
            Ranges.of_array(array), mapped, strict=True
        )
    ]


small = st.tuples(st.integers(0, 60 * PAGE), st.integers(0, 40 * PAGE))
aligned = small.map(lambda pair: (pair[0] & -PAGE, pair[1] & -PAGE))


@given(address_spaces(), st.lists(small | aligned, max_size=8))
def test_cut(lines: list[Line], pairs: list[tuple[int, int]]) -> None:
    """Each piece lies in one VMA or in none, and all together are what was asked."""
    assert pieces_of(lines, pairs) == cut(lines, pairs)


@given(any_lines(), st.lists(st.integers(0, TOP - 1), max_size=8))
def test_cut_at_hostile_boundaries(lines: list[Line], starts: list[int]) -> None:
    """VMAs that overlap, in no order, lose no byte of what is cut."""
    pairs = [(start, min(TOP - start, TOP - 1)) for start in starts]
    pieces = pieces_of(lines, pairs)
    assert sum(length for _, length, _ in pieces) == sum(n for _, n in pairs)


def test_cut_at_the_top() -> None:
    """What ends where the address space does is cut like any other."""
    last = Line(TOP - 2 * PAGE, TOP - PAGE)
    assert pieces_of([last], [(TOP - 3 * PAGE, 3 * PAGE)]) == [
        (TOP - 3 * PAGE, PAGE, False),
        (TOP - 2 * PAGE, PAGE, True),
        (TOP - PAGE, PAGE, False),
    ]
