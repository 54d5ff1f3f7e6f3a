"""Output of the command: results to stdout, all else to stderr; the exit status."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, TextIO

from pmadvise.command.text import error_text, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

INTERRUPTED = 130


class Output:
    """The options that every command has, and the streams."""

    def __init__(self) -> None:
        self.json = self.quiet = self.debug = False
        self.failed = self.interrupted = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Python takes the C locale for UTF-8; who asks for it wants ASCII.
                is_c = os.environ.get("LC_ALL") in ("C", "POSIX")
                encoding = "ascii" if is_c else None
                stream.reconfigure(encoding=encoding, errors="backslashreplace")
        self.ascii_only = not _encoding(sys.stdout).startswith("utf")
        self._consoles: dict[bool, Console] = {}

    def console(self, err: bool = False) -> Console:
        """Return rich's console for stdout or stderr; it interprets no markup."""
        if err not in self._consoles:
            from rich.console import Console  # noqa: PLC0415 - slow, --help needs none

            self._consoles[err] = Console(
                file=sys.stderr if err else sys.stdout,
                markup=False,
                emoji=False,
                highlight=False,
                soft_wrap=False,
            )
        return self._consoles[err]

    def table(self, gap: int = 1) -> Table:
        """Return an empty table with a line below its titles.

        Args:
            gap: Blanks between columns.
        """
        from rich import box  # noqa: PLC0415 - slow, --help needs none
        from rich.table import Table  # noqa: PLC0415 - for the same reason

        lines = box.SIMPLE_HEAD
        if self.ascii_only:  # rich's own box for ASCII has bars between columns
            lines = box.Box(str(lines).replace("─", "-"), ascii=True)
        return Table(box=lines, padding=(0, gap - 1, 0, 0), show_edge=False)

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

    def error(self, subject: str, error: OSError | str) -> None:
        """Write a line about something that failed, and remember that it did."""
        self.failed = True
        if self.debug and isinstance(error, OSError):
            traceback.print_exception(error)
        text = error if isinstance(error, str) else error_text(error)
        self._write(f"{subject}: {text}" if subject else text)

    def warn(self, text: str) -> None:
        """Write a line about something to know, unless that is unwanted."""
        if not self.quiet:
            self._write(f"warning: {text}")

    def _write(self, text: str) -> None:
        # All that a message holds may come from a target.
        line = printable(text, not _encoding(sys.stderr).startswith("utf"))
        sys.stderr.write(f"pmadvise: {line}\n")
        sys.stderr.flush()

    def status(self) -> int:
        """Return the exit status."""
        if self.interrupted:
            return INTERRUPTED
        return 1 if self.failed else 0


def _encoding(stream: TextIO) -> str:
    return (getattr(stream, "encoding", None) or "utf-8").lower()
