"""The picture of an address space, and the groups of mappings."""

from __future__ import annotations

import pytest
from helpers.targets import GIB, MIB, PAGE

from pmadvise import Ranges, Vma
from pmadvise.command.layout import (
    ABSENT,
    IN_MEMORY,
    SWAPPED,
    Layout,
    Mapping,
    Picture,
    cut,
    draw,
)

WIDTH, HEIGHT = 64, 8


def vma(start: int, length: int, path: str = "") -> Vma:
    return Vma(start, start + length, "rw-p", 0, 0, 0, path)


def layout(*vmas: Vma, resident: Ranges, swapped: Ranges = Ranges()) -> Layout:  # noqa: B008 - immutable
    """Return a layout in which these ranges are in memory and in swap."""
    mappings = []
    for one in vmas:
        whole = Ranges([(one.start, one.length)])
        mappings.append(Mapping(one, (whole & resident).total, (whole & swapped).total))
    return Layout(mappings, resident, swapped)


def bytes_of(picture: Picture, kind: int) -> int:
    """Return the bytes of a kind in all cells."""
    return sum(cell[kind] for row in picture.rows for cell in row.cells)


def test_every_byte_of_memory_is_drawn() -> None:
    """What is in memory and in swap is drawn to the byte."""
    start = 5 * GIB
    resident = Ranges([(start, 3 * MIB), (start + 5 * MIB, PAGE)])
    swapped = Ranges([(start + 3 * MIB, MIB)])
    picture = draw(
        layout(vma(start, 8 * MIB), resident=resident, swapped=swapped), WIDTH, HEIGHT
    )
    assert bytes_of(picture, IN_MEMORY) == resident.total
    assert bytes_of(picture, SWAPPED) == swapped.total


def test_long_empty_parts_are_cut_short() -> None:
    """Terabytes without memory take no more than a small part of the picture."""
    start = 5 * GIB
    resident = Ranges([(start, 8 * MIB), (start + 900 * GIB, 8 * MIB)])
    picture = draw(layout(vma(start, 1024 * GIB), resident=resident), WIDTH, HEIGHT)
    assert bytes_of(picture, ABSENT) < bytes_of(picture, IN_MEMORY) // 8


@pytest.mark.parametrize("count", [1, 3, 8, 40])
def test_it_fits(count: int) -> None:
    """However many parts there are, rows are few, and no wider than asked for."""
    starts = [n * 4 * GIB for n in range(1, count + 1)]
    resident = Ranges((start, MIB) for start in starts)
    vmas = [vma(start, 2 * MIB) for start in starts]
    picture = draw(layout(*vmas, resident=resident), WIDTH, HEIGHT)
    assert len(picture.rows) <= HEIGHT
    assert max(len(row.cells) for row in picture.rows) <= WIDTH


def test_rows_have_their_addresses() -> None:
    """A row begins where its first cell does; a gap begins a row."""
    starts = [5 * GIB, 90 * GIB]
    resident = Ranges((start, MIB) for start in starts)
    vmas = [vma(start, MIB) for start in starts]
    picture = draw(layout(*vmas, resident=resident), WIDTH, height=2)
    assert [row.start for row in picture.rows] == starts


def test_nothing_in_memory() -> None:
    """An address space without memory is drawn all the same."""
    picture = draw(layout(vma(GIB, MIB), resident=Ranges()), WIDTH, HEIGHT)
    assert bytes_of(picture, IN_MEMORY) == 0
    assert len(picture.rows) == 1


def test_groups() -> None:
    """Heap, stacks and anonymous memory are one group each, and each file is one."""
    start = GIB
    paths = ["", "[heap]", "/lib/a", "/lib/a", "[stack]", "", "/lib/b"]
    vmas = [vma(start + n * MIB, MIB, path) for n, path in enumerate(paths)]
    groups = layout(*vmas, resident=Ranges([(start, MIB)])).groups()
    assert {group.name: group.mappings for group in groups} == {
        "anonymous": 2,
        "heap": 1,
        "/lib/a": 2,
        "stack": 1,
        "/lib/b": 1,
    }
    assert (groups[0].name, groups[0].resident) == ("anonymous", MIB)


def test_the_rest_is_one_row() -> None:
    """Where there are too many groups the last row has the sums of the rest."""
    vmas = [vma(GIB + n * MIB, MIB, f"/lib/{n}") for n in range(10)]
    groups = cut(layout(*vmas, resident=Ranges()).groups(), 4)
    assert [group.mappings for group in groups] == [1, 1, 1, 7]
    assert (groups[-1].name, groups[-1].size) == ("7 others", 7 * MIB)
