"""Texts of maps that the kernel put together while the mappings changed."""

from __future__ import annotations

import itertools

import pytest
from helpers.maps_model import (
    PAGE,
    Line,
    address_spaces,
    any_lines,
    in_order,
    space_of,
    text_of,
)
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import Ranges

A, B, C = (Line(i * PAGE, (i + 2) * PAGE) for i in (1, 3, 5))
FILE = Line(2 * PAGE, 6 * PAGE, "r--p", 7 * PAGE, 8, 1, 77, b"/lib")

torn_lines = st.lists(address_spaces(pages=12), min_size=1, max_size=4).map(
    lambda looks: list(itertools.chain(*looks))
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([A, B, B, C], [A, B, C]),
        ([B, C, A], [A, B, C]),
        ([A, B, C, A, B, C], [A, B, C]),
        ([A, FILE], [A, FILE._replace(start=A.end, offset=FILE.offset + PAGE)]),
        ([FILE, A], [A, FILE._replace(start=A.end, offset=FILE.offset + PAGE)]),
        ([FILE, B], [FILE]),
        ([A, A._replace(end=B.end)], [A, B]),
        ([A._replace(perms="r--p"), A], [A._replace(perms="r--p")]),
    ],
    ids=[
        "twice",
        "out of order",
        "all of it twice",
        "a file overlapped",
        "a file overlapped, out of order",
        "inside another",
        "grown meanwhile",
        "changed meanwhile",
    ],
)
def test_torn(lines: list[Line], expected: list[Line]) -> None:
    """VMAs listed twice, out of order or overlapping are put in order."""
    assert list(space_of(text_of(lines))) == [line.vma() for line in expected]


@given(torn_lines | any_lines())
def test_sorted_and_disjoint(lines: list[Line]) -> None:
    """A snapshot is sorted, and no two of its VMAs overlap."""
    space = list(space_of(text_of(lines)))
    assert all(a.end <= b.start for a, b in itertools.pairwise(space))


@given(torn_lines | any_lines())
def test_no_byte_is_lost(lines: list[Line]) -> None:
    """A snapshot covers the addresses of all lines, and no other."""
    found = Ranges((vma.start, vma.length) for vma in space_of(text_of(lines)))
    listed = Ranges((line.start, line.end - line.start) for line in lines)
    assert found.merged() == listed.merged()


@given(torn_lines | any_lines())
def test_no_byte_is_selected_twice(lines: list[Line]) -> None:
    """No address is in two ranges of a selection."""
    selected = space_of(text_of(lines)).select()
    assert selected.total == selected.merged().total


@given(torn_lines)
def test_of_the_lines_as_they_are(lines: list[Line]) -> None:
    """Each VMA is a line, or a part of one: with its permissions, file and offset."""
    identities = {
        (line.start + i * PAGE, line.identity(line.start + i * PAGE))
        for line in lines
        for i in range((line.end - line.start) // PAGE)
    }
    kept = in_order(lines)
    assert list(space_of(text_of(lines))) == [line.vma() for line in kept]
    assert {(line.start, line.identity(line.start)) for line in kept} <= identities


@given(address_spaces())
def test_a_whole_text_is_left_alone(lines: list[Line]) -> None:
    """Lines in order come out as they are, neighbours not joined."""
    assert list(space_of(text_of(lines))) == [line.vma() for line in lines]
