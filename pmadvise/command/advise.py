"""`pmadvise cold`, `pageout`, `willneed` and `collapse`."""

from __future__ import annotations

import os

from pmadvise._advise.profiles import profile_of
from pmadvise._native.base import PAGE_SIZE
from pmadvise.command.effects import LOST, why_ended
from pmadvise.command.guard import refusal, swap_warning
from pmadvise.command.output import Output
from pmadvise.command.result import print_results, to_json
from pmadvise.command.targets import Target, Targets
from pmadvise.command.work import Interrupts, Observer, Order, Outcome, advise
from pmadvise.memory import swap


def run_order(output: Output, targets: Targets, order: Order, force: bool) -> None:
    """Advise the targets, and print what became of each."""
    for subject, error in targets.errors:
        output.error(subject, error)
    if not force:
        for target in targets:
            if target.error is None:
                target.error = refusal(target.pid, order.advice)
    warning = swap_warning(order.advice, swap())
    if warning is not None and any(map(_has_memory, targets)):
        output.warn(warning)
    with Interrupts() as interrupts:
        outcomes = advise(targets, order, interrupts.event, _observer(output, order))
        output.interrupted = interrupts.event.is_set()
    _print(output, outcomes, order)


def _has_memory(target: Target) -> bool:
    """Return whether there is anything to advise: not in a kernel thread."""
    if target.error is not None or target.process is None:
        return False
    try:
        return target.process.status().rss > 0
    except ProcessLookupError:
        return False


def _observer(output: Output, order: Order) -> Observer:
    """Return bars where somebody may look at them."""
    if output.quiet or order.dry_run or not os.isatty(2):
        return Observer()
    if not output.console(err=True).is_terminal:
        return Observer()
    from pmadvise.command.progress import Bars  # noqa: PLC0415 - slow, for a terminal

    return Bars(output, order.budget)


def _print(output: Output, outcomes: list[Outcome], order: Order) -> None:
    if output.json:
        for one in outcomes:
            output.write_json(to_json(one, order))
    elif not output.quiet:
        print_results(output, outcomes, order, swap())
    for one in outcomes:
        if one.error is not None:
            output.error(one.target.subject, one.error)
        elif one.report is not None and one.report.ended in LOST:
            output.error(one.target.subject, str(why_ended(one.report, order)))
        elif one.report is None or not _is_done(one, outcomes, order):
            output.failed = True


def _is_done(one: Outcome, outcomes: list[Outcome], order: Order) -> bool:
    """Return whether all was advised that was asked for.

    A budget that is used up is all that was asked for.
    """
    assert one.report is not None
    report = one.report
    if report.skipped:
        return False
    if report.ended == "budget" and order.budget is not None:
        advised = sum(each.report.advised for each in outcomes if each.report)
        least = order.budget - max(PAGE_SIZE - 1, _grain(order))
        return advised >= least
    return report.ended == "complete"


def _grain(order: Order) -> int:
    """Return the bytes that a budget may leave over, as a part of them does nothing."""
    profile = profile_of(order.advice)
    return profile.max_element() - 1 if profile.whole_elements else 0
