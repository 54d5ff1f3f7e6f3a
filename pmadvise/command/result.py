"""The results of an advice: a table, a row a target, and lines of JSON."""

from __future__ import annotations

from rich.text import Text

from pmadvise.advice import advice_name
from pmadvise.command.effects import lines
from pmadvise.command.output import Output
from pmadvise.command.text import duration, size
from pmadvise.command.work import Order, Outcome
from pmadvise.memory import Swap
from pmadvise.report import Report
from pmadvise.status import Status

_WIDE = 100


def print_results(
    output: Output, outcomes: list[Outcome], order: Order, now: Swap
) -> None:
    """Print the table, and below it what there is to tell of each target."""
    shown = [one for one in outcomes if one.report is not None]
    if not shown:
        return
    console = output.console()
    arrow = "->" if output.ascii_only else "→"
    separator = f" {arrow} " if console.width >= _WIDE else f"\n{arrow} "
    if order.dry_run:
        separator = ""
    table = output.table(gap=2 if console.width >= _WIDE else 1)
    table.add_column("PID", justify="right", no_wrap=True, overflow="crop")
    table.add_column("name", overflow="fold")
    would = "would be\nadvised" if order.dry_run else "advised"
    for title in ("asked", would, "skipped", "in memory", "in swap"):
        table.add_column(title, justify="right", no_wrap=True, overflow="crop")
    if not order.dry_run:
        table.add_column("time", justify="right", no_wrap=True, overflow="crop")
        table.add_column(
            "longest\ncall", justify="right", no_wrap=True, overflow="crop"
        )
    for one in shown:
        assert one.report is not None
        table.add_row(*_row(output, one, one.report, separator))
    console.print(table)
    for line in lines(shown, order, now):
        console.print(Text(output.name(line)))


def _row(
    output: Output, one: Outcome, report: Report, separator: str
) -> list[Text | str]:
    skipped = sum(skip.length for skip in report.skipped)
    cells: list[Text | str] = [
        str(one.target.pid),
        Text(output.name(one.target.name)),
        size(report.requested),
        Text(size(report.advised), style="green" if report.advised else ""),
        Text(size(skipped), style="yellow" if skipped else "dim"),
        _change(report, "rss", separator),
        _change(report, "swap", separator),
    ]
    if separator:
        cells += [duration(report.elapsed), duration(report.longest_call)]
    return cells


def _change(report: Report, name: str, separator: str) -> str:
    """Return a number before and after."""
    before = _of(report.before, name)
    return f"{before}{separator}{_of(report.after, name)}" if separator else before


def _of(status: Status | None, name: str) -> str:
    return "-" if status is None else size(getattr(status, name))


def to_json(outcome: Outcome, order: Order) -> dict[str, object]:
    """Return an outcome as --json prints it."""
    error = outcome.error
    report = outcome.report
    done = report or Report(order.advice, 0, 0, (), 0, 0.0, 0.0, "complete")
    body = done.to_dict()
    return {
        "pid": outcome.target.pid,
        "name": outcome.target.name,
        "advice": advice_name(order.advice),
        "dry_run": order.dry_run,
        **{name: body[name] for name in _FROM_REPORT},
        "ended": None if report is None else report.ended,
        "error": None
        if error is None
        else {"errno": error.errno, "message": error.strerror or str(error)},
    }


_FROM_REPORT = (
    *("requested", "advised", "skipped", "not_tried", "ended", "calls", "elapsed"),
    *("longest_call", "before", "after", "remaining"),
)
