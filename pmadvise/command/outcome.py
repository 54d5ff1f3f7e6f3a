"""Outcome of an advice to a target: a row of the table, sentences, a line of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.text import Text

from pmadvise._reasons import errno_name
from pmadvise.advice import Advice, advice_name
from pmadvise.command.output import Output
from pmadvise.command.text import count, duration, long_size, size
from pmadvise.command.work import Order, Outcome
from pmadvise.memory import Swap
from pmadvise.report import Report
from pmadvise.status import Status

_WIDE = 100
LOST = ("exec", "exited", "refused")
"""Ends of a target that are errors."""

_ENDED = {
    "budget": "the budget is used up",
    "floor": "no more swap may be used: --swap-floor",
    "timeout": "the time was over",
    "cancelled": "interrupted",
    "exec": "the process executed another program",
    "exited": "the process exited",
    "refused": "the permission was lost meanwhile",
}
_FEW = 1 << 20
_MANY = 3
"""Outcomes whose notes are no longer one by one."""


class Note(NamedTuple):
    """A sentence that begins with a number of bytes, or does not."""

    n_bytes: int | None
    text: str

    def __str__(self) -> str:
        """Return the sentence."""
        if self.n_bytes is None:
            return self.text
        return f"{long_size(self.n_bytes)} {self.text}"


def lines(outcomes: list[Outcome], order: Order, now: Swap | None) -> Iterator[str]:
    """Yield the sentences below the numbers: of many targets in sums.

    Args:
        outcomes: Of the targets.
        order: What was asked for.
        now: The swap space afterwards; None where it is hidden.
    """
    if len(outcomes) < _MANY:
        for outcome in outcomes:
            for note in notes(outcome, order, now):
                yield f"{outcome.target.subject}: {note}"
        return
    by_text: dict[str, list[Note]] = {}
    for outcome in outcomes:
        for note in notes(outcome, order, now):
            by_text.setdefault(note.text, []).append(note)
    for text, alike in by_text.items():
        yield f"{count(len(alike), 'target')}: {_sum(text, alike)}"


def _sum(text: str, alike: Iterable[Note]) -> Note:
    numbers = [note.n_bytes for note in alike if note.n_bytes is not None]
    return Note(sum(numbers) if numbers else None, text)


def notes(outcome: Outcome, order: Order, now: Swap | None) -> Iterator[Note]:
    """Yield the sentences about one outcome."""
    report = outcome.report
    if report is None:
        return
    if not report.requested and report.ended == "complete":
        where = "swap" if order.advice == Advice.WILLNEED else "memory"
        text = f"nothing to advise: none of what is selected is in {where}"
        yield Note(None, text)
    groups: dict[str, int] = {}
    for skip in report.skipped:
        text = f"skipped: {skip.reason} ({errno_name(skip.errno)})"
        groups[text] = groups.get(text, 0) + skip.length
    for text, n_bytes in groups.items():
        yield Note(n_bytes, text)
    if report.ended != "complete" and report.ended not in LOST:
        yield why_ended(report, order)
    if order.dry_run:
        return
    if order.advice == Advice.PAGEOUT:
        yield from _stayed(report, now)
        yield from _swapped(report, now)
    elif order.advice == Advice.WILLNEED and report.advised:
        yield Note(
            report.advised,
            "are read ahead, into the swap cache or the page cache: the process has "
            "them in memory at its next touch",
        )


def why_ended(report: Report, order: Order) -> Note:
    """Return why a rest was not tried, and how much."""
    ended: str = report.ended
    if ended == "budget" and order.swap_floor:
        is_floor = order.budget is None or report.advised < order.budget
        ended = "floor" if is_floor else ended
    if report.requested:
        return Note(report.not_tried, f"not tried: {_ENDED[ended]}")
    return Note(None, f"nothing was tried: {_ENDED[ended]}")


def _stayed(report: Report, now: Swap | None) -> Iterator[Note]:
    """Yield why memory that was advised is still there."""
    remaining = report.remaining
    if remaining is None or report.ended != "complete":
        return
    skipped = sum(skip.length for skip in report.skipped)
    own = max(remaining.resident - remaining.shared - skipped, 0)
    if remaining.shared:
        yield Note(
            remaining.shared,
            "stayed in memory: shared with other processes, and the kernel passes over "
            "what is shared",
        )
    if not own:
        return
    if now is None:
        why = "why is unknown, as /proc hides the swap space"
    elif not now.total:
        why = "swap is off"
    elif now.free < _FEW:
        why = "no swap is free"
    else:
        why = (
            "touched again since, or touched too recently to be on an LRU list, or "
            "memory.swap.max of its cgroup is reached"
        )
    yield Note(own, f"stayed in memory: {why}")


def _swapped(report: Report, now: Swap | None) -> Iterator[Note]:
    """Yield whether memory that was swapped is free."""
    if report.before is None or report.after is None:
        return
    moved = report.after.swap - report.before.swap
    if moved <= 0:
        return
    if now is None:
        text = "went to swap; if they are free is unknown, as /proc hides the swap"
    elif now.frees_at_once:
        text = "went to swap and are free, as all of the swap is zram or zswap"
    else:
        text = (
            "went to swap but are not free yet: they stay in the swap cache, clean, "
            "until the next reclaim, as not all of the swap is zram or zswap"
        )
    yield Note(moved, text)


def print_results(
    output: Output, outcomes: list[Outcome], order: Order, now: Swap | None
) -> None:
    """Print the table, and below it the sentences."""
    shown = [outcome for outcome in outcomes if outcome.report is not None]
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
    for outcome in shown:
        assert outcome.report is not None
        table.add_row(*_row(output, outcome, outcome.report, separator))
    console.print(table)
    for line in lines(shown, order, now):
        console.print(Text(output.name(line)))


def _row(
    output: Output, outcome: Outcome, report: Report, separator: str
) -> list[Text | str]:
    skipped = sum(skip.length for skip in report.skipped)
    cells: list[Text | str] = [
        str(outcome.target.pid),
        Text(output.name(outcome.target.name)),
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
