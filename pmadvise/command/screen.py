"""Screen of `show`: the totals, the picture and the mappings of a process."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

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
from pmadvise.command.targets import TargetEntry
from pmadvise.command.text import count, long_size, shorten, size
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
_NUMBERS = ("maps", "size", "in memory", "in swap")
_SIZES = {"size": 7, "in memory": 9, "in swap": 7}
_GROUP_COLUMNS = {"maps": 5, **_SIZES, "": _BAR, "mapping": 0}
_MAPPING_COLUMNS = {"perms": 5, **_SIZES, "": _SHORT_BAR, "mapping": 0}
_LEAST_NAME = 8
_ROWS_AT_ONCE = 500
_GROUPS = 20
_ROWS = 8
_LABEL = 15
"""Characters of the address before a row, and the blank behind it."""


class Screen:
    """Renders processes for a terminal of this width.

    Args:
        output: Where it will be printed.
        every: Show every mapping instead of the groups.
        n_groups: Groups at most.
    """

    def __init__(self, output: Output, every: bool, n_groups: int = _GROUPS) -> None:
        self._output, self._every, self._n_groups = output, every, n_groups
        self._signs = _ASCII if output.ascii_only else _UTF8
        self._width = output.console().width

    def parts(
        self, target: TargetEntry, status: Status, layout: Layout | None
    ) -> Iterator[RenderableType]:
        """Yield all of a process, to be printed one below the other."""
        yield from self._totals(target, status, layout)
        if layout is None or not layout.mappings:
            return
        if layout.refusal is None:
            yield Text()
            yield from self._picture(layout)
        yield Text()
        if self._every:
            yield from self._mappings(layout)
        else:
            yield self._groups(layout)

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
        picture = draw(layout, max(self._width - _LABEL, 1), _ROWS)
        for row in picture.rows:
            text = Text(f"{row.start:#014x} ", style="bright_black", no_wrap=True)
            for cell in row.cells:
                text.append_text(self._sign(cell.index(max(cell))))
            yield text
        legend = Text("  ")
        for kind, name in ((IN_MEMORY, "memory"), (SWAPPED, "swap"), (ABSENT, "none")):
            legend.append_text(self._sign(kind)).append(f" {name}  ")
        yield legend.append(
            f"a cell: {long_size(picture.cell)}; long empty parts are cut short"
        )

    def _sign(self, kind: int, n: int = 1) -> Text:
        return Text(self._signs[kind] * n, style=_STYLES[kind])

    def _bar(self, n_bytes: int, resident: int, swapped: int, width: int) -> Text:
        """Return the parts of a size as a bar; what is there has a cell at least."""
        cells = {}
        for kind, part in ((IN_MEMORY, resident), (SWAPPED, swapped)):
            cells[kind] = max(round(width * part / n_bytes), 1) if part else 0
        if cells[IN_MEMORY] + cells[SWAPPED] > width:
            larger = IN_MEMORY if cells[IN_MEMORY] > cells[SWAPPED] else SWAPPED
            cells[larger] -= cells[IN_MEMORY] + cells[SWAPPED] - width
        cells[ABSENT] = width - sum(cells.values())
        return Text.assemble(*(self._sign(kind, n) for kind, n in cells.items()))

    def _table(self, columns: dict[str, int]) -> Table:
        """Return a table whose columns have these widths; the last gets the rest."""
        table = self._output.table()
        for title, width in columns.items():
            table.add_column(
                title,
                justify="right" if title in _NUMBERS else "left",
                width=width or self._rest(columns),
                no_wrap=True,
                overflow="crop",
            )
        return table

    def _rest(self, columns: dict[str, int]) -> int:
        """Return the width of the last column, beside the others and the gaps."""
        return max(self._width - sum(columns.values()) - len(columns) + 1, _LEAST_NAME)

    def _groups(self, layout: Layout) -> Table:
        table = self._table(_GROUP_COLUMNS)
        for group in cut(layout.groups(), self._n_groups):
            table.add_row(
                str(group.mappings),
                *self._sizes(group, layout, _BAR),
                self._name(group.name, _GROUP_COLUMNS),
            )
        return table

    def _mappings(self, layout: Layout) -> Iterator[Table]:
        """Yield the parts of one table: rich is slow, and the first part is early."""
        longest = max(len(f"{mapping.vma.start:x}") for mapping in layout.mappings)
        columns = {"address": max(longest, 12), **_MAPPING_COLUMNS}
        for first in range(0, len(layout.mappings), _ROWS_AT_ONCE):
            table = self._table(columns)
            table.show_header = first == 0
            for mapping in layout.mappings[first : first + _ROWS_AT_ONCE]:
                group = Group(mapping.vma.path)
                group.add(mapping)
                table.add_row(
                    f"{mapping.vma.start:012x}",
                    mapping.vma.perms,
                    *self._sizes(group, layout, _SHORT_BAR),
                    self._name(group.name, columns),
                )
            yield table

    def _sizes(self, group: Group, layout: Layout, bar: int) -> list[Text]:
        if layout.refusal is not None:
            return [Text(size(group.size)), Text("?"), Text("?"), Text()]
        return [
            Text(size(group.size)),
            Text(size(group.resident), style="" if group.resident else "dim"),
            Text(size(group.swapped), style="" if group.swapped else "dim"),
            self._bar(group.size, group.resident, group.swapped, bar),
        ]

    def _name(self, name: str, columns: dict[str, int]) -> Text:
        """Return a name that fits into the last column."""
        width = self._rest(columns)
        return Text(shorten(self._output.name(name), width, self._output.ellipsis))
