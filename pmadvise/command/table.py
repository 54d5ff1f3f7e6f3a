"""Tables for any width: whole numbers in each, and a mark where a name is cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from rich.cells import cell_len
from rich.segment import Segment, Segments
from rich.style import Style

from pmadvise.command.text import shorten

Cell: TypeAlias = "str | tuple[tuple[str, str], ...]"
"""A text, or pieces of text with the style of each."""

_LEAST_NAME = 8
_ROWS_AT_ONCE = 500


class Column(NamedTuple):
    """A column of a table."""

    title: str
    """Of one line or more."""
    kind: str = "number"
    """ "number", "text", "name" (it may be cut, with a mark), or "extra": it is left
    out where there is no space for it."""


class Table:
    """Rows, in columns as wide as need be; below each other where they do not fit.

    Args:
        columns: One of them is a name.
        ellipsis: The mark of a name that is cut.
        rule: The character of the line below the titles.
        gap: Blanks between columns.
    """

    def __init__(
        self, columns: Sequence[Column], ellipsis: str, rule: str, gap: int = 1
    ) -> None:
        self._columns = columns
        self._ellipsis, self._rule, self._gap = ellipsis, rule, gap
        self._rows: list[Sequence[Cell]] = []
        self._lengths: list[list[int]] = []

    def add(self, *cells: Cell) -> None:
        """Add a row, with a cell for each column."""
        self._rows.append(cells)
        self._lengths.append([_length(cell) for cell in cells])

    def render(self, width: int) -> Iterator[Segments]:
        """Yield the lines for a width, some rows at a time."""
        widths = self._widths(width)
        lines = self._stacked(width) if widths is None else self._lines(widths)
        pending: list[Segment] = []
        for n_lines, line in enumerate(lines, 1):
            pending += line
            pending.append(Segment.line())
            if n_lines % _ROWS_AT_ONCE == 0:
                yield Segments(pending)
                pending = []
        yield Segments(pending)

    def _widths(self, width: int) -> dict[int, int] | None:
        """Return the width of each column that is shown, None if they do not fit."""
        titles = [
            max(map(cell_len, column.title.split("\n"))) for column in self._columns
        ]
        natural = [max(lengths) for lengths in zip(titles, *self._lengths, strict=True)]
        kinds = [column.kind for column in self._columns]
        name = kinds.index("name")
        for shown in (
            range(len(kinds)),
            [index for index, kind in enumerate(kinds) if kind != "extra"],
        ):
            others = sum(natural[index] + self._gap for index in shown if index != name)
            if others + min(natural[name], _LEAST_NAME) <= width:
                widths = {index: natural[index] for index in shown}
                widths[name] = min(natural[name], width - others)
                return widths
        return None

    def _lines(self, widths: dict[int, int]) -> Iterator[list[Segment]]:
        titles = {i: self._columns[i].title.split("\n") for i in widths}
        height = max(map(len, titles.values()))
        for level in range(height):
            blank = [""] * height
            row = {i: (blank + title)[-height:][level] for i, title in titles.items()}
            lengths = {i: cell_len(text) for i, text in row.items()}
            yield self._line({i: ((row[i], "bold"),) for i in row}, lengths, widths)
        length = sum(widths.values()) + self._gap * (len(widths) - 1)
        yield [Segment(self._rule * length)]
        for cells, cell_lengths in zip(self._rows, self._lengths, strict=True):
            yield self._line(cells, cell_lengths, widths)

    def _line(
        self,
        cells: Mapping[int, Cell] | Sequence[Cell],
        lengths: Mapping[int, int] | Sequence[int],
        widths: dict[int, int],
    ) -> list[Segment]:
        segments: list[Segment] = []
        text = ""  # without a style, and not yet a segment: there are many
        behind = 0  # blanks
        for index, width in widths.items():
            cell, padding = cells[index], width - lengths[index]
            if padding < 0:
                cell, padding = self._fitted(cell, width), 0
            text += " " * behind
            behind = self._gap
            if self._columns[index].kind == "number":
                text += " " * padding
            else:
                behind += padding
            if isinstance(cell, str):
                text += cell
                continue
            for piece, style in cell:
                if not style:
                    text += piece
                elif piece:
                    segments += Segment(text), Segment(piece, _style(style))
                    text = ""
        if text:
            segments.append(Segment(text))
        return segments

    def _fitted(self, cell: Cell, width: int) -> Cell:
        if isinstance(cell, str) and _length(cell) > width:
            return shorten(cell, width, self._ellipsis)
        return cell

    def _stacked(self, width: int) -> Iterator[list[Segment]]:
        """Yield the fields of a row, as many on a line as fit; a blank line below."""
        for cells in self._rows:
            line: list[Segment] = []
            left = width
            for column, cell in zip(self._columns, cells, strict=True):
                if column.kind == "extra":
                    continue
                title = " ".join(column.title.split())
                text = self._fitted(cell, width)
                length = cell_len(title) + 1 + _length(text)
                if line and length + 2 > left:
                    yield line
                    line, left = [], width
                if line:
                    line.append(Segment("  "))
                    left -= 2
                if length > left:  # the title alone
                    yield [Segment(title, _style("bold"))]
                    line, left = _segments(text), width - _length(text)
                    continue
                line += [Segment(title, _style("bold")), Segment(" "), *_segments(text)]
                left -= length
            if line:
                yield line
            yield []


_styles: dict[str, Style] = {}


def _style(name: str) -> Style | None:
    if name and name not in _styles:
        _styles[name] = Style.parse(name)
    return _styles.get(name)


def _segments(cell: Cell) -> list[Segment]:
    if isinstance(cell, str):
        return [Segment(cell)]
    return [Segment(text, _style(name)) for text, name in cell if text]


def _length(cell: Cell) -> int:
    if isinstance(cell, str):
        return len(cell) if cell.isascii() else cell_len(cell)
    return sum([len(text) for text, _ in cell])
