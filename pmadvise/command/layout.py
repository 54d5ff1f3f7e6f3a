"""Layout of an address space: its mappings in groups, and a picture of its memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pmadvise import PAGE_SIZE
from pmadvise.maps import Vma
from pmadvise.process import Process
from pmadvise.ranges import Ranges

IN_MEMORY, SWAPPED, ABSENT = 0, 1, 2
"""The kinds of a piece, each the index of its bytes in a cell."""

_GAPS = (1 << 30, 1 << 36, 1 << 42, 1 << 64)
"""Unmapped bytes that begin a new row; the first that gives few enough rows."""
_SHORTENED = 32
"""A part of the address space without memory is drawn at most as long as this part of
all the memory."""
_LEAST = 1 << 16
ANONYMOUS = "anonymous"
HEAP = "heap"
STACK = "stack"
_NAMES = {"[heap]": HEAP, "": ANONYMOUS}


@dataclass(frozen=True, slots=True)
class Mapping:
    """A VMA, and how much of it is where."""

    vma: Vma
    resident: int | None
    """Bytes; None where the pages may not be looked at."""
    swapped: int | None

    def to_dict(self) -> dict[str, object]:
        """Return it as `show --json` prints it."""
        return {
            "start": self.vma.start,
            "end": self.vma.end,
            "perms": self.vma.perms,
            "path": self.vma.path,
            "size": self.vma.length,
            "resident": self.resident,
            "swapped": self.swapped,
        }


@dataclass(slots=True)
class Group:
    """Mappings of one kind, or of one file."""

    name: str
    mappings: int = 0
    size: int = 0
    resident: int = 0
    swapped: int = 0

    def add(self, mapping: Mapping) -> None:
        """Add a mapping."""
        self.mappings += 1
        self.size += mapping.vma.length
        self.resident += mapping.resident or 0
        self.swapped += mapping.swapped or 0

    def join(self, other: Group) -> None:
        """Add all of another group."""
        self.mappings += other.mappings
        self.size += other.size
        self.resident += other.resident
        self.swapped += other.swapped


@dataclass(frozen=True)
class Layout:
    """The mappings of a process, and its pages."""

    mappings: list[Mapping]
    resident: Ranges
    swapped: Ranges
    refusal: OSError | None = None
    """Why the pages could not be looked at."""

    def groups(self) -> list[Group]:
        """Return the groups, those with most memory first."""
        found: dict[str, Group] = {}
        for mapping in self.mappings:
            name = group_of(mapping.vma)
            found.setdefault(name, Group(name)).add(mapping)
        return sorted(
            found.values(),
            key=lambda group: (
                -group.resident - group.swapped,
                -group.size,
                group.name,
            ),
        )


def read_layout(process: Process) -> Layout:
    """Look at the mappings and the pages of a process, one behind the other.

    Raises:
        PermissionError, ProcessLookupError: As Process.maps().
    """
    space = process.maps()
    vmas = list(space)
    all_ranges = space.select()._array
    refusal = None
    try:
        resident, swapped = process.resident(), process.swapped()
    except PermissionError as error:
        refusal = error
        nothing = Ranges()
        unknown = [Mapping(vma, None, None) for vma in vmas]
        return Layout(unknown, nothing, nothing, refusal)
    counted = zip(
        vmas,
        all_ranges.overlap(resident._array),
        all_ranges.overlap(swapped._array),
        strict=True,
    )
    return Layout([Mapping(*row) for row in counted], resident, swapped)


def group_of(vma: Vma) -> str:
    """Return the name of the group that a mapping belongs to."""
    if vma.path.startswith("[stack"):
        return STACK
    return _NAMES.get(vma.path, vma.path)


def cut(groups: Iterable[Group], most: int) -> list[Group]:
    """Return the first `most` groups, the last of them for all that are left."""
    listed = list(groups)
    if len(listed) <= most:
        return listed
    rest = Group(f"{len(listed) - most + 1} others")
    for group in listed[most - 1 :]:
        rest.join(group)
    return [*listed[: most - 1], rest]


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
    memory = sum(piece.length for piece in pieces if piece.kind != ABSENT)
    longest = max(memory // _SHORTENED, _LEAST)
    islands = _islands(pieces, height)
    lengths = [sum(_drawn(piece, longest) for piece in island) for island in islands]
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
        (mapping.vma.start, mapping.vma.length)
        for mapping in layout.mappings
        if mapping.vma.path != "[vsyscall]"  # a page at the end of all addresses
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
