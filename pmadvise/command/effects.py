"""What an advice did to a target, and why not more: in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from pmadvise.advice import Advice
from pmadvise.command.text import count, errno_name, long_size
from pmadvise.command.work import Order, Outcome
from pmadvise.memory import Swap
from pmadvise.report import Report

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
LOST = ("exec", "exited", "refused")
"""Ends of a target that are errors."""


def notes(outcome: Outcome, order: Order, now: Swap) -> Iterator[str]:
    """Yield what there is to tell of an outcome beside its numbers.

    Args:
        outcome: Of a target.
        order: What was asked for.
        now: The swap space afterwards.
    """
    report = outcome.report
    if report is None:
        return
    if not report.requested and report.ended == "complete":
        where = "swap" if order.advice == Advice.WILLNEED else "memory"
        yield f"nothing to advise: none of the selected memory is in {where}"
    yield from _skipped(report)
    if report.ended != "complete" and report.ended not in LOST:
        yield why_ended(report, order)
    if order.advice == Advice.PAGEOUT and not order.dry_run:
        yield from _stayed(report, now)
        yield from _swapped(report, now)
    elif order.advice == Advice.WILLNEED and report.advised and not order.dry_run:
        yield (
            "what was read is in the swap cache or the page cache: the process has it "
            "in memory at its next touch"
        )


def why_ended(report: Report, order: Order) -> str:
    """Return why a rest was not tried, and how much."""
    ended: str = report.ended
    if ended == "budget" and order.swap_floor:
        is_floor = order.budget is None or report.advised < order.budget
        ended = "floor" if is_floor else ended
    left = "nothing was tried"
    if report.requested:
        left = f"{long_size(report.not_tried)} were not tried"
    return f"{left}: {_ENDED[ended]}"


def _skipped(report: Report) -> Iterator[str]:
    groups: dict[tuple[int, str], list[int]] = {}
    for skip in report.skipped:
        groups.setdefault((skip.errno, skip.reason), []).append(skip.length)
    for (number, reason), lengths in groups.items():
        ranges = count(len(lengths), "range")
        yield (
            f"skipped {long_size(sum(lengths))} in {ranges}: "
            f"{reason} ({errno_name(number)})"
        )


def _stayed(report: Report, now: Swap) -> Iterator[str]:
    """Say why memory that was advised is still there."""
    remaining = report.remaining
    if remaining is None or report.ended != "complete":
        return
    locked = sum(skip.length for skip in report.skipped)
    own = max(remaining.resident - remaining.shared - locked, 0)
    if remaining.shared:
        yield (
            f"{long_size(remaining.shared)} stayed in memory: shared with other "
            "processes, and the kernel passes over shared pages"
        )
    if not own:
        return
    if not now.total:
        why = "swap is off"
    elif now.free < _FEW:
        why = "no swap is free"
    else:
        why = "in use meanwhile, not yet on a list of the kernel, or no swap allowed"
    yield f"{long_size(own)} stayed in memory: {why}"


def _swapped(report: Report, now: Swap) -> Iterator[str]:
    """Say whether memory that was swapped is free."""
    if report.before is None or report.after is None:
        return
    moved = report.after.swap - report.before.swap
    if moved <= 0:
        return
    if now.frees_at_once:
        yield f"{long_size(moved)} went to swap, and are free: the swap is zram"
    else:
        yield (
            f"{long_size(moved)} went to swap, but are not free yet: they stay in the "
            "swap cache, clean, until the next reclaim (the swap is not zram)"
        )
