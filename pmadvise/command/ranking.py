"""Ranking of `top`: processes in the order of a size or of CPU time, and its table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from pmadvise.command.options import Wanted
from pmadvise.command.output import Output
from pmadvise.command.table import Cell, Column
from pmadvise.command.targets import TargetEntry, Targets
from pmadvise.command.text import count, duration, shorten, size, user_name
from pmadvise.process import Process
from pmadvise.status import Status

_FRONT = (
    Column("PID"),
    Column("name", "text"),
    Column("user", "text"),
    Column("in\nmemory"),
    Column("in\nswap"),
)
_TIME, _SHARE = Column("CPU\ntime"), Column("CPU\nshare")
_CGROUP = Column("cgroup", "name")
_WIDE = 100
_LONGEST = 15
"""Columns of a name; only one with escapes, or of a user, may be longer."""
_FEW_PERCENT = 9.95
_ENDED = "ZX"


class Row(NamedTuple):
    """A process, and what a look at it found besides its status."""

    target: TargetEntry
    cgroup: str | None
    """None if it is unknown."""
    share: float | None
    """Of one CPU since the look before; None if that look had not found the process."""

    def to_dict(self) -> dict[str, object]:
        """Return it as `top --json` prints it."""
        status = self.target.status
        return {
            "pid": self.target.pid,
            "name": self.target.name,
            "status": None if status is None else status.to_dict(),
            "cgroup": self.cgroup,
        }


class Ranking:
    """The targets, looked at as often as is asked for, each opened for one look.

    Args:
        wanted: Which processes; nothing: all of the host.
        key: "rss", "swap" or "cpu".
        is_watch: Whether CPU time is that between looks.
    """

    def __init__(self, wanted: Wanted, key: str, is_watch: bool) -> None:
        self._key, self._is_watch = key, is_watch
        self._rows: dict[int, Row] = {}
        self._before: dict[tuple[int, float], tuple[float, float]] = {}
        self._now: dict[tuple[int, float], tuple[float, float]] = {}
        self.targets = Targets(*wanted, host=not any(wanted), note=self._note)

    def look(self) -> None:
        """Look at the processes again, of which some may be others."""
        self._before, self._now, self._rows = self._now, {}, {}
        self.targets.look()

    def _note(self, target: TargetEntry, process: Process) -> None:
        assert target.status is not None
        now, cpu = time.monotonic(), target.status.cpu
        # The ID and the start time name a process for ever.
        identity = target.pid, target.status.started
        self._now[identity] = now, cpu
        share = None
        if identity in self._before:
            then, cpu_then = self._before[identity]
            share = max(cpu - cpu_then, 0) / (now - then) if now > then else None
        try:
            cgroup = process.cgroup()
        except OSError:
            cgroup = None
        self._rows[target.pid] = Row(target, cgroup, share)

    @property
    def rows(self) -> list[Row]:
        """The processes in their order, and then those that can't be looked at."""
        rows = [
            self._rows.get(target.pid) or Row(target, None, None)
            for target in self.targets
        ]
        return sorted(rows, key=self._order)

    def _order(self, row: Row) -> tuple[bool, float, float, int]:
        status, pid = row.target.status, row.target.pid
        if status is None:
            return True, 0.0, 0.0, pid
        if self._key == "cpu":
            share = -1.0 if row.share is None else row.share
            return False, -share, -status.cpu, pid
        return False, -float(getattr(status, self._key)), 0.0, pid

    @property
    def is_over(self) -> bool:
        """Whether every process has ended, or none is left."""
        return not any(
            target.status is not None and target.status.state not in _ENDED
            for target in self.targets
        )

    def render(self, output: Output, every: bool) -> list[RenderableType]:
        """Return the table, of as many processes as the terminal has lines for."""
        rows = [row for row in self.rows if row.target.status is not None]
        console = output.console()
        if every or not console.is_terminal:
            return self._parts(output, rows, len(rows))
        n_rows, height = min(len(rows), console.height), console.height - 1
        while True:
            parts = self._parts(output, rows, n_rows)
            n_lines = len(console.render_lines(Group(*parts), pad=False))
            if n_lines <= height or n_rows <= 1:
                return parts
            n_rows = max(min(n_rows - 1, n_rows * height // n_lines), 1)

    def _parts(
        self, output: Output, rows: Sequence[Row], n_rows: int
    ) -> list[RenderableType]:
        cpu = _SHARE if self._is_watch else _TIME
        width = output.console().width
        gap = 2 if width >= _WIDE else 1
        table = output.table((*_FRONT, cpu, _CGROUP), gap)
        for row in rows[:n_rows]:
            assert row.target.status is not None
            table.add(*self._cells(output, row, row.target.status))
        parts: list[RenderableType] = []
        if rows:
            parts += table.render(width)
        if n_rows < len(rows):
            text = f"{n_rows:,} of {count(len(rows), 'process', 'processes')}; "
            parts.append(Text(f"{text}--all prints the others too"))
        parts += [Text(output.name(reason)) for reason in self.targets.left_out]
        return parts

    def _cells(self, output: Output, row: Row, status: Status) -> list[Cell]:
        names = row.target.name, user_name(status.uid)
        short = [shorten(output.name(n), _LONGEST, output.ellipsis) for n in names]
        return [
            str(row.target.pid),
            *short,
            ((size(status.rss), "green" if status.rss else "dim"),),
            ((size(status.swap), "magenta" if status.swap else "dim"),),
            _share(row.share) if self._is_watch else duration(status.cpu),
            "?" if row.cgroup is None else output.name(row.cgroup),
        ]


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    percent = share * 100
    return f"{percent:.1f}%" if percent < _FEW_PERCENT else f"{percent:.0f}%"
