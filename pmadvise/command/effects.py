"""What an advice did to a target, and why not more: in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pmadvise.advice import Advice
from pmadvise.command.sharers import sharers
from pmadvise.command.text import count, errno_name, long_size
from pmadvise.command.work import Order, Outcome
from pmadvise.memory import Swap
from pmadvise.report import Report

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
_OTHERS = "other processes"
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


def lines(outcomes: list[Outcome], order: Order, now: Swap) -> Iterator[str]:
    """Yield what there is to tell beside the numbers: of many targets in sums.

    Args:
        outcomes: Of the targets.
        order: What was asked for.
        now: The swap space afterwards.
    """
    if len(outcomes) < _MANY:
        for one in outcomes:
            for note in notes(one, order, now):
                yield f"{one.target.subject}: {note}"
        return
    found: dict[str, list[Note]] = {}
    for one in outcomes:
        for note in notes(one, order, now):
            found.setdefault(note.text, []).append(note)
    for text, alike in found.items():
        yield f"{count(len(alike), 'target')}: {_sum(text, alike)}"


def _sum(text: str, alike: Iterable[Note]) -> Note:
    numbers = [one.n_bytes for one in alike if one.n_bytes is not None]
    return Note(sum(numbers) if numbers else None, text)


def notes(outcome: Outcome, order: Order, now: Swap) -> Iterator[Note]:
    """Yield what there is to tell of one outcome."""
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
        yield from _stayed(outcome, report, order, now)
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


def _stayed(
    outcome: Outcome, report: Report, order: Order, now: Swap
) -> Iterator[Note]:
    """Tell why memory that was advised is still there."""
    remaining = report.remaining
    if remaining is None or report.ended != "complete":
        return
    skipped = sum(skip.length for skip in report.skipped)
    own = max(remaining.resident - remaining.shared - skipped, 0)
    if remaining.shared:
        process = outcome.target.process
        n = None if process is None else sharers(process, order.selection)
        others = _OTHERS if n is None else count(n, "other process", _OTHERS)
        yield Note(
            remaining.shared,
            f"stayed in memory: shared with {others}, and the kernel passes over what "
            "is shared",
        )
    if not own:
        return
    if not now.total:
        why = "swap is off"
    elif now.free < _FEW:
        why = "no swap is free"
    else:
        why = "used again meanwhile, or touched last, or its cgroup may use no swap"
    yield Note(own, f"stayed in memory: {why}")


def _swapped(report: Report, now: Swap) -> Iterator[Note]:
    """Tell whether memory that was swapped is free."""
    if report.before is None or report.after is None:
        return
    moved = report.after.swap - report.before.swap
    if moved <= 0:
        return
    if now.frees_at_once:
        text = "went to swap and are free, as all of the swap is zram"
    else:
        text = (
            "went to swap but are not free yet: they stay in the swap cache, clean, "
            "until the next reclaim, as the swap is not zram"
        )
    yield Note(moved, text)
