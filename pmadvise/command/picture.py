"""A picture of an address space: where there is memory, in rows of cells."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pmadvise._native.base import PAGE_SIZE
from pmadvise.command.mappings import Layout
from pmadvise.ranges import Ranges

IN_MEMORY, SWAPPED, ABSENT = 0, 1, 2
"""What a piece is, and the index of its bytes in a cell."""

_GAPS = (1 << 30, 1 << 36, 1 << 42, 1 << 64)
"""Unmapped bytes that begin a new row; the first that gives few enough rows."""
_SHORTENED = 32
"""A part of the address space without memory is drawn at most as long as this part of
all the memory."""
_LEAST = 1 << 16


class _Piece(NamedTuple):
    start: int
    length: int
    kind: int


@dataclass
class Row:
    """A row of the picture."""

    start: int
    """Address of its first cell."""
    cells: list[list[int]] = field(default_factory=list)
    """The bytes of each: in memory, in swap, absent."""


@dataclass(frozen=True)
class Picture:
    """Rows by address."""

    rows: list[Row]
    cell: int
    """Bytes that a cell stands for."""


def draw(layout: Layout, width: int, height: int) -> Picture:
    """Return a picture of at most `width` cells in each of about `height` rows.

    Args:
        layout: What to draw.
        width: Cells a row.
        height: Rows.
    """
    pieces = _pieces(layout)
    memory = sum(one.length for one in pieces if one.kind != ABSENT)
    longest = max(memory // _SHORTENED, _LEAST)
    islands = _islands(pieces, height)
    lengths = [sum(_drawn(one, longest) for one in island) for island in islands]
    cell = _pages(sum(lengths) // (width * height))
    while sum(-(-n // (cell * width)) for n in lengths) > max(height, len(islands)):
        cell += _pages(cell // 8)
    rows = [row for island in islands for row in _rows(island, cell, width, longest)]
    return Picture(rows, cell)


def _pages(n_bytes: int) -> int:
    """Return a number of bytes rounded up to whole pages, one at least."""
    return max(-(-n_bytes // PAGE_SIZE), 1) * PAGE_SIZE


def _pieces(layout: Layout) -> list[_Piece]:
    """Return what the mappings hold, by address."""
    mapped = Ranges(
        (one.vma.start, one.vma.length)
        for one in layout.mappings
        if one.vma.path != "[vsyscall]"  # a page at the end of all addresses
    ).merged()
    swapped = layout.swapped - layout.resident
    absent = mapped - layout.resident - layout.swapped
    kinds = (layout.resident, IN_MEMORY), (swapped, SWAPPED), (absent, ABSENT)
    return list(heapq.merge(*(_of_kind(ranges, kind) for ranges, kind in kinds)))


def _of_kind(ranges: Ranges, kind: int) -> Iterator[_Piece]:
    return (_Piece(start, length, kind) for start, length in ranges)


def _islands(pieces: list[_Piece], height: int) -> list[list[_Piece]]:
    """Cut the address space where little of it is mapped."""
    islands: list[list[_Piece]] = []
    for gap in _GAPS:
        islands = []
        for piece in pieces:
            last = islands[-1][-1] if islands else None
            if last is None or piece.start - last.start - last.length >= gap:
                islands.append([])
            islands[-1].append(piece)
        if len(islands) <= height:
            break
    return islands


def _drawn(piece: _Piece, longest: int) -> int:
    """Return the bytes that a piece is drawn as."""
    return min(piece.length, longest) if piece.kind == ABSENT else piece.length


def _rows(
    island: Iterable[_Piece], cell: int, width: int, longest: int
) -> Iterator[Row]:
    row: Row | None = None
    free = 0  # bytes of the last cell that are not drawn yet
    for piece in island:
        left = _drawn(piece, longest)
        while left:
            if not free:
                if row is not None and len(row.cells) == width:
                    yield row
                    row = None
                row = row or Row(piece.start + _done(piece, left, longest))
                row.cells.append([0, 0, 0])
                free = cell
            assert row is not None
            part = min(free, left)
            row.cells[-1][piece.kind] += part
            left -= part
            free -= part
    if row is not None:
        yield row


def _done(piece: _Piece, left: int, longest: int) -> int:
    """Return how far into a piece its drawing has come, in bytes of the piece."""
    drawn = _drawn(piece, longest)
    return piece.length * (drawn - left) // drawn & -PAGE_SIZE
