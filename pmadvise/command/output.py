"""Output of the command: results to stdout, all else to stderr; the exit status."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pmadvise._interrupt import INTERRUPTED
from pmadvise._streams import encoding_of, for_escapes, is_lost, printable
from pmadvise.command.text import error_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pmadvise.command.table import Column, Table

_LEAST_WIDTH = 20
"""Columns of a terminal; a narrower one breaks the lines itself."""


class Output:
    """The options that every command has, and the streams."""

    def __init__(self) -> None:
        self.json = self.quiet = self.debug = False
        self.failed = self.interrupted = False
        self.ascii_only = not encoding_of(sys.stdout).startswith("utf")
        self._consoles: dict[bool, Console] = {}

    def console(self, err: bool = False) -> Console:
        """Return rich's console for stdout or stderr; it interprets no markup."""
        if err not in self._consoles:
            from rich.console import Console  # noqa: PLC0415 - slow, --help needs none

            console = Console(
                file=for_escapes(sys.stderr if err else sys.stdout),
                markup=False,
                emoji=False,
                highlight=False,
                soft_wrap=False,
                _environ=_environment(),
            )
            # Set only here: a width that is set does not follow a resize.
            if console.width < _LEAST_WIDTH:  # noqa: PLR1730
                console.width = _LEAST_WIDTH
            self._consoles[err] = console
        return self._consoles[err]

    def table(self, columns: Sequence[Column], gap: int = 1) -> Table:
        """Return an empty table.

        Args:
            columns: Its columns.
            gap: Blanks between them.
        """
        from pmadvise.command.table import Table  # noqa: PLC0415 - rich is slow

        rule = "-" if self.ascii_only else "─"
        return Table(columns, self.ellipsis, rule, gap)

    def print(self, *parts: RenderableType) -> None:
        """Print what rich can render, and the parts of tables."""
        for part in parts:
            self.console().print(part, crop=False)

    @property
    def ellipsis(self) -> str:
        """What stands for the left out part of a name."""
        return "..." if self.ascii_only else "…"

    def name(self, text: str) -> str:
        """Return a name or a message for the terminal."""
        return printable(text, self.ascii_only)

    def write_json(self, value: object) -> None:
        """Write a line of JSON, in ASCII: escapes stand for all that is not."""
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    @property
    def is_lost(self) -> bool:
        """Whether nobody reads the results any more, or nothing can be written."""
        return is_lost(sys.stdout)

    @property
    def shows_progress(self) -> bool:
        """Whether somebody may look at a bar on stderr."""
        if self.quiet or not os.isatty(2):
            return False
        return self.console(err=True).is_terminal

    def error(self, subject: str, error: OSError | str) -> None:
        """Write a line about something that failed, and remember that it did."""
        self.failed = True
        if isinstance(error, str):
            text = error
        else:
            self.trace(error)
            text = error_text(error, subject)
        self._write(f"{subject}: {text}" if subject else text)

    def trace(self, error: BaseException) -> None:
        """Write the traceback of an error, if that is wanted."""
        if self.debug:
            for line in _traceback(error):
                sys.stderr.write(f"{self._escaped(line)}\n")

    def warn(self, text: str) -> None:
        """Write a line about something to know, unless that is unwanted."""
        if not self.quiet:
            self._write(f"warning: {text}")

    def _write(self, text: str) -> None:
        # All that a message holds may come from a target.
        sys.stderr.write(f"pmadvise: {self._escaped(text)}\n")
        sys.stderr.flush()

    def _escaped(self, text: str) -> str:
        return printable(text, not encoding_of(sys.stderr).startswith("utf"))

    def status(self) -> int:
        """Return the exit status."""
        if self.interrupted:
            return INTERRUPTED
        return 1 if self.failed else 0


def _environment() -> Mapping[str, str]:
    """Return the environment without a width or height that says nothing: 0."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES") or value.strip("0")
    }


def _traceback(error: BaseException) -> Iterator[str]:
    """Yield the lines of a traceback, of which a message is one whatever it holds."""
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    if cause is not None:
        yield from _traceback(cause)
        yield "which led to:"
    yield "Traceback (most recent call last):"
    for frame in traceback.format_tb(error.__traceback__):
        yield from frame.rstrip("\n").split("\n")
    yield f"{type(error).__name__}: {error}"
