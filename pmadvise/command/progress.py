"""Progress on a terminal: of an advice a bar a target, over bytes; of a wait, one."""

from __future__ import annotations

import math

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pmadvise import PAGE_SIZE
from pmadvise.command.output import Output
from pmadvise.command.text import duration, shorten, size

_NAME_WIDTH = 22
_MAX_LINES = 8
"""Of targets that are done and whose line still stands."""


class _Bytes(ProgressColumn):
    """Bytes done, and in all."""

    def render(self, task: Task) -> Text:
        """Return the text of a line."""
        total = "?" if task.total is None else size(int(task.total))
        return Text(f"{size(int(task.completed))}/{total}", justify="right")


class _Rate(ProgressColumn):
    """Bytes a second."""

    def render(self, task: Task) -> Text:
        """Return the text of a line."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{size(int(speed))}/s", justify="right")


class Bars:
    """The lines on stderr, while the work goes on.

    Args:
        output: Where to.
        budget: Bytes that end the work; None if there is no such number.
    """

    def __init__(self, output: Output, budget: int | None) -> None:
        self._output, self._left = output, budget
        self._done = 0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            _Bytes(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            console=output.console(err=True),
            expand=True,
        )
        self._tasks: list[TaskID] = []

    def begin(self, subject: str) -> None:
        """Add the line of a target."""
        if not self._tasks:
            self._progress.start()
        self._finish()
        if self._left is not None:
            self._left = max(self._left - self._done, 0)
        self._done = 0
        name = self._output.name(subject)
        text = shorten(name, _NAME_WIDTH, self._output.ellipsis)
        self._tasks.append(self._progress.add_task(text, total=None))
        if len(self._tasks) > _MAX_LINES:
            self._progress.update(self._tasks[-_MAX_LINES - 1], visible=False)

    def progress(self, done: int, total: int) -> None:
        """Move the bar of the last line, whose end is that of the budget if need be."""
        self._done = done
        if self._left is not None:
            total = max(min(total, self._left), done)
        self._progress.update(self._tasks[-1], completed=done, total=total)

    def _finish(self) -> None:
        """Let the bar of a target stand still that is done, or had nothing to do."""
        for task in self._progress.tasks[-1:]:
            total = task.total or 0
            if total - task.completed < PAGE_SIZE:  # a budget may end inside a page
                self._progress.update(task.id, completed=total, total=total)

    def end(self) -> None:
        """Leave the lines as they are."""
        if self._tasks:
            self._finish()
            self._progress.stop()


class _Seconds(ProgressColumn):
    """Seconds done, and in all."""

    def render(self, task: Task) -> Text:
        """Return the text of a line."""
        if task.total is None:
            return Text("")
        done = math.floor(task.completed * 10) / 10
        return Text(f"{duration(done)}/{duration(task.total)}", justify="right")


class TimeBar:
    """The line on stderr while time passes.

    Args:
        output: Where to.
        text: What is done meanwhile.
    """

    def __init__(self, output: Output, text: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            _Seconds(),
            console=output.console(err=True),
            expand=True,
        )
        self._task = self._progress.add_task(text, total=None)

    def show(self, done: float, total: float | None) -> None:
        """Move the bar; without a total it only shows that something is done."""
        self._progress.start()
        self._progress.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """Leave the line as it is."""
        self._progress.stop()
