"""Verb `pmadvise top`: processes, largest first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from pmadvise.command import options
from pmadvise.command.output import Output

if TYPE_CHECKING:
    from pmadvise.command.ranking import Ranking

_HELP = f"""Show processes, those with most memory first.

A line for each: its memory, as `pmadvise show` has it, its user, its cgroup, and the
CPU time since it started; with --watch its share of one CPU since the look before, "-"
where there was none. Kernel threads and this command are left out, and a line tells of
processes that /proc hides.

{options.TARGET_HELP} Without a TARGET: all processes."""


@click.command(help=_HELP)
@options.targets
@click.option(
    "--sort",
    type=click.Choice(["rss", "swap", "cpu"]),
    default="rss",
    show_default=True,
    help="Most memory, most memory in swap, or most CPU time first.",
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Every process, not only as many as the terminal has lines for.",
)
@click.option(
    "--watch",
    metavar="TIME",
    type=options.positive_time,
    help="Refresh in place, until Ctrl-C or the end of the targets.",
)
@options.common
@click.pass_context
def top(
    context: click.Context,
    wanted: options.Wanted,
    sort: str,
    every: bool,
    watch: float | None,
) -> None:
    """Look at the processes and print them."""
    from pmadvise.command.ranking import Ranking  # noqa: PLC0415 - not for the help

    ranking = Ranking(wanted, sort, watch is not None)
    _Printer(options.output_of(context), ranking, every).run(watch)


COMMANDS = {"top": top}


class _Printer:
    """Prints a ranking, and each error of it once.

    Args:
        output: Where.
        ranking: What.
        every: Whether to print rows for which the terminal has no line.
    """

    def __init__(self, output: Output, ranking: Ranking, every: bool) -> None:
        self._output, self._ranking, self._every = output, ranking, every
        self._reported: set[tuple[str, str]] = set()

    def run(self, seconds: float | None) -> None:
        """Print it; again and again if it is to be watched."""
        self._report(is_first=True)
        if seconds is None:
            self._print()
            return
        try:
            self._watch(seconds)
        except KeyboardInterrupt:
            self._output.interrupted = True

    def _report(self, is_first: bool = False) -> None:
        """Write the errors; targets may have gone since the first look."""
        targets, output = self._ranking.targets, self._output
        if output.json:
            for reason in targets.left_out:
                if self._is_new("", reason):
                    output.warn(reason)
        for subject, error in targets.errors:
            has_gone = isinstance(error, (FileNotFoundError, ProcessLookupError))
            if (is_first or not has_gone) and self._is_new(subject, str(error)):
                output.error(subject, error)
        for target in targets:
            error_of = target.error
            if error_of is None or target.may_have_gone(error_of):
                continue
            if self._is_new(target.subject, str(error_of)):
                output.error(target.subject, error_of)

    def _is_new(self, subject: str, text: str) -> bool:
        is_new = (subject, text) not in self._reported
        self._reported.add((subject, text))
        return is_new

    def _print(self) -> None:
        output = self._output
        if output.json:
            for row in self._ranking.rows:
                output.write_json(row.to_dict())
                if output.is_lost:
                    return
        elif not output.quiet:
            output.print(*self._ranking.render(output, self._every))

    def _watch(self, seconds: float) -> None:
        """Refresh in place, until every process has ended or Ctrl-C."""
        from rich.console import Group as Lines  # noqa: PLC0415 - not for the help
        from rich.live import Live  # noqa: PLC0415 - likewise

        output, ranking = self._output, self._ranking
        console = output.console()
        if output.json or output.quiet or not console.is_terminal:
            while not output.is_lost and not ranking.is_over:
                self._print()
                self._next(seconds)
            return
        with Live(console=console, auto_refresh=False) as live:
            while not ranking.is_over:
                parts = ranking.render(output, self._every)
                live.update(Lines(*parts), refresh=True)
                self._next(seconds)

    def _next(self, seconds: float) -> None:
        time.sleep(seconds)
        self._ranking.look()
        self._report()
