"""Ages: the table of how much memory was not touched for how long."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from pmadvise.command.idle import grain_of
from pmadvise.command.output import Output
from pmadvise.command.table import Cell, Column
from pmadvise.command.text import duration, size
from pmadvise.command.tracking import Ages

_COLUMNS = (
    Column("idle for", "name"),
    Column("size"),
    Column("share"),
    Column("", "extra"),
)
_BAR = 16
_STEPS = (1, 2, 5, 10, 20, 30)
_UNITS = (1, 60, 3600)
_NAMED = sorted({0, *(step * unit for unit in _UNITS for step in _STEPS)})
"""Seconds: of a longer list of ages, these are shown, and the oldest."""


def rows(pairs: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return those of the ages that are shown, the youngest first."""
    chosen = {
        next((pair for pair in pairs if pair[0] >= age), pairs[-1]) for age in _NAMED
    }
    return sorted(chosen)


def render(output: Output, ages: Ages) -> Iterator[RenderableType]:
    """Yield the table, and what tells the ages.

    A row is about all the memory that is as old or older, so the sizes fall.
    """
    resident = ages.pairs[0][1] + ages.unknown
    table = output.table(_COLUMNS)
    shown = [(_age(seconds), n_bytes) for seconds, n_bytes in rows(ages.pairs)]
    for text, n_bytes in [*shown, ("unknown", ages.unknown)]:
        share = n_bytes / resident if resident else 0.0
        cells: list[Cell] = [text, size(n_bytes), f"{share:.0%}", _bar(output, share)]
        table.add(*cells)
    yield from table.render(output.console().width)
    text = f"for so long or longer, by {grain_of(ages.source, ages.grain)}"
    yield Text(text, style="dim")


def _age(seconds: float) -> str:
    """Return an age that it has reached: rounded down."""
    return duration(math.floor(seconds * 10) / 10)


def _bar(output: Output, share: float) -> Cell:
    full, empty = ("#", ".") if output.ascii_only else ("█", "·")
    n_cells = max(round(_BAR * share), 1) if share else 0
    return (full * n_cells, "green"), (empty * (_BAR - n_cells), "bright_black")
