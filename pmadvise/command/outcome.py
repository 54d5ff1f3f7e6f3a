"""Outcome of an advice to a target: a row of the table, sentences, a line of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.text import Text

from pmadvise._reasons import errno_name
from pmadvise.advice import Advice, advice_name
from pmadvise.command.idle import IdleMemory
from pmadvise.command.output import Output
from pmadvise.command.table import Cell, Column
from pmadvise.command.text import count, duration, error_json, long_size, size
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
_IN_USE = (
    "touched again since, or touched too recently to be on an LRU list, or "
    "memory.swap.max of its cgroup is reached"
)
_NOT_MAPPED = "were advised, and not mapped by --touch"
_FEW = 1 << 20
_AT_TOUCHED, _TOUCHED_TITLE = 5, "touched"
"""The column of the table that --touch adds, if there is space for it."""
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
        if outcome.ended == "refused":
            yield Note(None, "nothing was tried: refused, as the error tells")
        return
    if outcome.held is not None:
        yield Note(None, outcome.held)
    if outcome.idle is not None and report.ended != "exec":
        yield from _idle(outcome.idle)
    if not report.requested and report.ended == "complete":
        yield Note(None, f"nothing to advise: {_why_nothing(outcome, order)}")
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
    elif order.touch and report.advised:
        yield from _touched(report)
    elif report.advised:
        yield Note(report.advised, _EFFECTS[order.advice])


def _idle(idle: IdleMemory) -> Iterator[Note]:
    """Yield how much is idle, and how exactly that is known."""
    time = duration(idle.seconds)
    yield Note(
        idle.size,
        f"were not touched for {time}, selected or not, by {idle.grain}",
    )
    if idle.unknown:
        yield Note(
            idle.unknown,
            "are of unknown age, and not taken for idle: shared, or not watched",
        )


_EFFECTS = {
    Advice.COLD: "are cold now: they stay in memory until it is short, and are then "
    "the first that the kernel reclaims",
    Advice.WILLNEED: "are read ahead, into the swap cache or the page cache: the "
    "process has them in memory at its next touch",
    Advice.COLLAPSE: "were collapsed: each whole huge page of them is a huge page "
    "now, or was one before",
}


def _touched(report: Report) -> Iterator[Note]:
    """Yield how much was mapped, and why the rest was not."""
    if report.touched:
        yield Note(
            report.touched,
            "are read ahead and mapped: the process has them in memory, and no page "
            "fault is left to it",
        )
    rest = report.advised - report.touched
    if report.ended in ("complete", "budget"):
        why = "mapped before, shared, or not readable"
    else:
        why = _ENDED[report.ended]
    if rest > 0 and (report.ended == "complete" or report.not_tried):
        yield Note(rest, f"{_NOT_MAPPED}: {why}")


def _why_nothing(outcome: Outcome, order: Order) -> str:
    if not outcome.matched:
        return f"no mapping matches {order.selection}"
    if order.idle is not None:
        time = duration(order.idle)
        if order.advice == Advice.COLLAPSE:
            return (
                "no block of a huge page of what is selected is half in memory and "
                f"was not touched for {time}"
            )
        return f"none of what is selected was not touched for {time}"
    if order.advice == Advice.COLLAPSE:
        return "no block of a huge page of what is selected is half in memory"
    where = "swap" if order.advice == Advice.WILLNEED else "memory"
    return f"none of what is selected is in {where}"


def why_ended(report: Report, order: Order) -> Note:
    """Return why a rest was not tried, and how much."""
    ended: str = report.ended
    if ended == "budget" and order.swap_floor:
        is_floor = order.budget is None or report.advised < order.budget
        ended = "floor" if is_floor else ended
    if not report.requested:
        return Note(None, f"nothing was tried: {_ENDED[ended]}")
    if order.touch and not report.not_tried:
        return Note(report.advised - report.touched, f"{_NOT_MAPPED}: {_ENDED[ended]}")
    return Note(report.not_tried, f"not tried: {_ENDED[ended]}")


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
        why = "why is unknown, as the swap space is hidden"
    elif not now.total:
        why = "swap is off"
    elif now.free < _FEW:
        why = "no swap is free"
    else:
        why = _IN_USE
    yield Note(own, f"stayed in memory: {why}")


def _swapped(report: Report, now: Swap | None) -> Iterator[Note]:
    """Yield whether memory that was swapped is free."""
    if report.before is None or report.after is None:
        return
    moved = report.after.swap - report.before.swap
    if moved <= 0:
        return
    if now is None:
        text = "went to swap; whether they are free is unknown, as the swap is hidden"
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
    wide = output.console().width >= _WIDE
    arrow = "->" if output.ascii_only else "→"
    if wide:
        arrow = f" {arrow} "
    titles = ["asked", "advised", "skipped", "in memory", "in swap"]
    if order.dry_run:
        titles[1] = "would be\nadvised"
    else:
        titles += ["time", "longest\ncall"]
    columns = [Column("PID"), Column("name", "name"), *map(Column, titles)]
    if order.touch:
        columns.insert(_AT_TOUCHED, Column(_TOUCHED_TITLE, "extra"))
    table = output.table(columns, gap=2 if wide else 1)
    shown = [outcome for outcome in outcomes if outcome.report is not None]
    for outcome in shown:
        assert outcome.report is not None
        table.add(*_row(output, outcome, outcome.report, arrow, order))
    if shown:
        output.print(*table.render(output.console().width))
    for line in lines(outcomes, order, now):
        output.print(Text(output.name(line)))


def _row(
    output: Output, outcome: Outcome, report: Report, arrow: str, order: Order
) -> list[Cell]:
    skipped = sum(skip.length for skip in report.skipped)
    cells: list[Cell] = [
        str(outcome.target.pid),
        output.name(outcome.target.name),
        size(report.requested),
        ((size(report.advised), "green" if report.advised else ""),),
        ((size(skipped), "yellow" if skipped else "dim"),),
    ]
    if order.touch:
        cells.append(size(report.touched).rjust(len(_TOUCHED_TITLE)))
    for name in ("rss", "swap"):
        before = _of(report.before, name)
        after = "" if order.dry_run else f"{arrow}{_of(report.after, name)}"
        cells.append(before + after)
    if not order.dry_run:
        cells += [duration(report.elapsed), duration(report.longest_call)]
    return cells


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
        "ended": outcome.ended,
        "idle": None if outcome.idle is None else outcome.idle.to_dict(),
        "error": error_json(
            None if outcome.has_gone else error, str(outcome.target.pid)
        ),
    }


_FROM_REPORT = (
    *("requested", "advised", "skipped", "not_tried", "ended", "calls", "elapsed"),
    *("longest_call", "before", "after", "remaining", "touched"),
)
