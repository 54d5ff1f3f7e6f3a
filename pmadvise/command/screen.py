"""Screen of `show`: the totals, the picture and the mappings of a process."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from pmadvise.command.ages import render
from pmadvise.command.layout import (
    ABSENT,
    IN_MEMORY,
    SWAPPED,
    Group,
    Layout,
    cut,
    draw,
)
from pmadvise.command.output import Output
from pmadvise.command.table import Cell, Column
from pmadvise.command.targets import TargetEntry
from pmadvise.command.text import count, long_size, size
from pmadvise.command.tracking import Tracking
from pmadvise.status import Status

_STYLES = {IN_MEMORY: "green", SWAPPED: "magenta", ABSENT: "bright_black"}
_UTF8 = {IN_MEMORY: "█", SWAPPED: "▒", ABSENT: "·"}
_ASCII = {IN_MEMORY: "#", SWAPPED: "~", ABSENT: "."}
_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
    "I": "idle",
}
_BAR = 16
_SHORT_BAR = 8
_SIZES = (Column("size"), Column("in memory"), Column("in swap"))
_LAST = (Column("", "extra"), Column("mapping", "name"))
_GROUP_COLUMNS = (Column("maps"), *_SIZES, *_LAST)
_MAPPING_COLUMNS = (Column("address", "text"), Column("perms", "text"), *_SIZES, *_LAST)
_GROUPS = 20
_ROWS = 8
_MOST_CELLS = 1000
_DIGITS = 12
"""Of an address at least."""


class Screen:
    """Renders processes for a terminal of this width.

    Args:
        output: Where it will be printed.
        every: Show every mapping instead of the groups.
        n_groups: Groups at most.
        tracking: Has the ages to show; None: no ages.
    """

    def __init__(
        self,
        output: Output,
        every: bool,
        n_groups: int = _GROUPS,
        tracking: Tracking | None = None,
    ) -> None:
        self._output, self._every, self._n_groups = output, every, n_groups
        self._signs = _ASCII if output.ascii_only else _UTF8
        self._width = output.console().width
        self._tracking = tracking

    def parts(
        self, target: TargetEntry, status: Status, layout: Layout | None
    ) -> Iterator[RenderableType]:
        """Yield all of a process, to be printed one below the other."""
        yield from self._totals(target, status, layout)
        ages = None if self._tracking is None else self._tracking.ages(target)
        if ages is not None:
            yield Text()
            yield from render(self._output, ages)
        if layout is None or not layout.mappings:
            return
        if layout.refusal is None:
            yield Text()
            yield from self._picture(layout)
        yield Text()
        if self._every:
            yield from self._mappings(layout)
        else:
            yield from self._groups(layout)

    def _totals(
        self, target: TargetEntry, status: Status, layout: Layout | None
    ) -> Iterator[Text]:
        state = _STATES.get(status.state, status.state)
        title = Text(f"{target.pid} ", style="bold")
        title.append(self._output.name(target.name), style="bold cyan")
        threads = count(status.threads, "thread")
        title.append(f"  {state}, {threads}")
        if layout is not None:
            n_bytes = sum(mapping.vma.length for mapping in layout.mappings)
            mappings = count(len(layout.mappings), "mapping")
            title.append(f", {mappings} of {long_size(n_bytes)}")
        yield title
        kinds = ", ".join(
            f"{long_size(n)} {kind}"
            for n, kind in (
                (status.anonymous, "anonymous"),
                (status.file, "file"),
                (status.shmem, "shared"),
            )
        )
        line = Text("in memory ")
        line.append(long_size(status.rss), style="bold green")
        yield line.append(f" ({kinds})")
        line = Text("in swap   ")
        line.append(long_size(status.swap), style="bold magenta")
        if status.locked:
            line.append(f"   locked {long_size(status.locked)}")
        yield line

    def _picture(self, layout: Layout) -> Iterator[Text]:
        last = max(mapping.vma.start for mapping in layout.mappings)
        digits = max(len(f"{last:x}"), _DIGITS)
        label = digits + len("0x ")
        picture = draw(layout, max(min(self._width, _MOST_CELLS) - label, 1), _ROWS)
        for row in picture.rows:
            text = Text(f"0x{row.start:0{digits}x} ", "bright_black", no_wrap=True)
            for cell in row.cells:
                text.append(*self._sign(cell.index(max(cell))))
            yield text
        legend = Text("  ")
        for kind, name in ((IN_MEMORY, "memory"), (SWAPPED, "swap"), (ABSENT, "none")):
            legend.append(*self._sign(kind)).append(f" {name}  ")
        yield legend.append(
            f"a cell: {long_size(picture.cell)}; long empty parts are cut short"
        )

    def _sign(self, kind: int, n: int = 1) -> tuple[str, str]:
        return self._signs[kind] * n, _STYLES[kind]

    def _bar(self, n_bytes: int, resident: int, swapped: int, width: int) -> Cell:
        """Return the parts of a size as a bar; what is there has a cell at least."""
        cells = {}
        for kind, part in ((IN_MEMORY, resident), (SWAPPED, swapped)):
            cells[kind] = max(round(width * part / n_bytes), 1) if part else 0
        if cells[IN_MEMORY] + cells[SWAPPED] > width:
            larger = IN_MEMORY if cells[IN_MEMORY] > cells[SWAPPED] else SWAPPED
            cells[larger] -= cells[IN_MEMORY] + cells[SWAPPED] - width
        cells[ABSENT] = width - sum(cells.values())
        return tuple(self._sign(kind, n) for kind, n in cells.items())

    def _groups(self, layout: Layout) -> Iterator[RenderableType]:
        table = self._output.table(_GROUP_COLUMNS)
        for group in cut(layout.groups(), self._n_groups):
            sizes = self._sizes(group, layout, _BAR)
            name = self._output.name(group.name)
            table.add(str(group.mappings), *sizes, name)
        yield from table.render(self._width)

    def _mappings(self, layout: Layout) -> Iterator[RenderableType]:
        table = self._output.table(_MAPPING_COLUMNS)
        for mapping in layout.mappings:
            vma = mapping.vma
            group = Group(vma.path)
            group.add(mapping)
            sizes = self._sizes(group, layout, _SHORT_BAR)
            name = self._output.name(vma.path)
            table.add(f"{vma.start:0{_DIGITS}x}", vma.perms, *sizes, name)
        yield from table.render(self._width)

    def _sizes(self, group: Group, layout: Layout, bar: int) -> list[Cell]:
        if layout.refusal is not None:
            return [size(group.size), "?", "?", ""]
        return [
            size(group.size),
            ((size(group.resident), "" if group.resident else "dim"),),
            ((size(group.swapped), "" if group.swapped else "dim"),),
            self._bar(group.size, group.resident, group.swapped, bar),
        ]
