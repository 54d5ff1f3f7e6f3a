"""Advice verbs: `pmadvise cold`, `pageout`, `willneed` and `collapse`."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, NamedTuple

import click

from pmadvise import PAGE_SIZE
from pmadvise.advice import Advice
from pmadvise.command import completion, options
from pmadvise.command.options import Share
from pmadvise.command.output import Output

if TYPE_CHECKING:
    from pmadvise.command.progress import Bars
    from pmadvise.command.targets import TargetEntry, Targets
    from pmadvise.command.work import Order, Outcome, Silence
    from pmadvise.report import Report

_HELP = """{summary}

{targets}

Without a selection: {default}.
--anon, --file and --shared add up; --path, --min-size and --range narrow the selection.

{units}"""


class Verb(NamedTuple):
    """The words of an advice."""

    summary: str
    default: str
    """Its default selection."""


VERBS = {
    Advice.COLD: Verb(
        "Let memory be reclaimed first, when memory is short (MADV_COLD).",
        "the private anonymous memory that is in memory",
    ),
    Advice.PAGEOUT: Verb(
        "Reclaim memory now: to swap, or to its file (MADV_PAGEOUT).",
        "the private anonymous memory that is in memory and not executable",
    ),
    Advice.WILLNEED: Verb(
        "Read memory ahead, from swap or from its file (MADV_WILLNEED).",
        "the private anonymous memory that is in swap",
    ),
    Advice.COLLAPSE: Verb(
        "Make huge pages (MADV_COLLAPSE).",
        "blocks of the size of a huge page, of private anonymous memory, that are at "
        "least half in memory",
    ),
}


def _hold_method(text: str) -> str:
    """Return a method of Process.hold()."""
    methods = completion.hold_methods()
    if text not in methods:
        raise click.BadParameter(f"{text!r} is none of {', '.join(methods)}")
    return text


_selection = options.together(
    click.option("--anon", is_flag=True, help="Private anonymous memory."),
    click.option("--file", is_flag=True, help="Private mappings of files."),
    click.option("--shared", is_flag=True, help="Shared mappings."),
    click.option(
        "--path",
        metavar="GLOB",
        multiple=True,
        help='Mappings whose path matches: "*" matches "/" too, "[heap]" is the heap.',
    ),
    click.option(
        "--range",
        "ranges",
        metavar="START-END",
        type=options.address_range,
        multiple=True,
        help="Addresses in hexadecimal, as /proc/PID/maps has them; without other "
        "selection options the range is advised as given, resident or not.",
    ),
    click.option(
        "--min-size",
        metavar="SIZE",
        type=options.size,
        default=0,
        help="Mappings of at least this size.",
    ),
)

_idle = click.option(
    "--idle",
    metavar="TIME",
    type=options.positive_time,
    help="Only memory that is not touched for so long: watch the targets for that time "
    "first. What is told apart, pages or whole mappings, depends on the kernel.",
)


def _refuse_idle(_context: click.Context, _: click.Parameter, text: str | None) -> None:
    if text is not None:
        raise click.UsageError(
            "--idle is about memory that is in memory, and willneed reads what is not"
        )


_of_willneed = options.together(
    click.option("--idle", hidden=True, expose_value=False, callback=_refuse_idle),
    click.option(
        "--touch",
        is_flag=True,
        help="Then read a byte of each page: the process has it in memory, and no page "
        "fault is left to it. Needs the right to ptrace the process.",
    ),
)

_limits = options.together(
    click.option(
        "--budget",
        metavar="SIZE|N%",
        type=options.share,
        help="Advise at most so many bytes that are in memory (willneed: that are "
        "not), of all targets together. N%: of their VmRSS (willneed: VmSwap).",
    ),
    click.option(
        "--swap-floor",
        metavar="SIZE|N%",
        type=options.share,
        default=0,
        help="Leave so much swap free; for pageout. N%: of all swap.",
    ),
    click.option(
        "--max-stall",
        metavar="TIME|none",
        type=options.stall,
        default="50ms",
        show_default=True,
        help="The longest time one call may hold the target's mmap lock.",
    ),
    click.option(
        "--timeout",
        metavar="TIME",
        type=options.time,
        help="End after so long.",
    ),
    click.option(
        "--hold",
        metavar="METHOD",
        type=_hold_method,
        shell_complete=completion.complete_method,
        help="Stop each target meanwhile: auto, ptrace, freezer or sigstop.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Print what would be advised, check the permission, and advise nothing.",
    ),
    click.option(
        "--force", is_flag=True, help="Advise process 1, and this command, too."
    ),
)


def _command(advice: Advice, verb: Verb) -> click.Command:
    """Return the command of an advice."""

    @options.targets
    @_selection
    @(_of_willneed if advice == Advice.WILLNEED else _idle)
    @_limits
    @options.common
    @click.pass_context
    def command(  # noqa: PLR0913 - an argument each option
        context: click.Context,
        *,
        wanted: options.Wanted,
        anon: bool,
        file: bool,
        shared: bool,
        path: tuple[str, ...],
        ranges: tuple[tuple[int, int], ...],
        min_size: int,
        budget: int | Share | None,
        swap_floor: int | Share,
        max_stall: float,
        timeout: float | None,
        hold: str | None,
        dry_run: bool,
        force: bool,
        idle: float | None = None,
        touch: bool = False,
    ) -> None:
        from pmadvise.command.selection import Selection  # noqa: PLC0415 - not for the help
        from pmadvise.command.targets import Targets  # noqa: PLC0415 - likewise
        from pmadvise.command.work import (  # noqa: PLC0415 - likewise
            Order,
            bytes_of,
            floor_of,
        )

        options.require_targets(wanted)
        if shared and idle is not None:
            raise click.UsageError(
                "--shared and --idle: whether others touch shared memory is unknown"
            )
        targets = Targets(*wanted)
        if isinstance(budget, Share):
            budget = bytes_of(budget, targets, advice)
        if advice != Advice.PAGEOUT:
            swap_floor = 0
        elif isinstance(swap_floor, Share):
            swap_floor = floor_of(swap_floor)
        order = Order(
            advice,
            Selection(anon, file, shared, path, ranges, min_size),
            budget=budget,
            swap_floor=swap_floor,
            max_stall=None if max_stall == math.inf else max_stall,
            timeout=timeout,
            hold=hold,
            dry_run=dry_run,
            idle=idle,
            touch=touch,
        )
        run_order(options.output_of(context), targets, order, force)

    text = _HELP.format(
        summary=verb.summary,
        targets=options.TARGET_HELP,
        default=verb.default,
        units=options.UNITS_HELP,
    )
    return click.command(advice.name.lower(), help=text)(command)


COMMANDS = {
    advice.name.lower(): _command(advice, verb) for advice, verb in VERBS.items()
}


def run_order(output: Output, targets: Targets, order: Order, force: bool) -> None:
    """Advise the targets, and print the outcome of each."""
    from pmadvise.command.tracking import track  # noqa: PLC0415 - not for the help
    from pmadvise.command.work import (  # noqa: PLC0415 - likewise
        Interrupts,
        advise,
        refusal,
        swap_or_error,
        swap_warning,
    )

    for subject, error in targets.errors:
        output.error(subject, error)
    if not force:
        for target in targets:
            if target.error is None:
                target.error = refusal(target.pid, order.advice)
    warning = swap_warning(order.advice, swap_or_error())
    if warning is not None and any(map(_has_memory, targets)):
        output.warn(warning)
    with Interrupts() as interrupts, contextlib.ExitStack() as stack:
        stop, tracking = interrupts.event, None
        if order.idle is not None:
            tracking = stack.enter_context(track(targets, stop, output))
            tracking.wait(order.idle, order.idle)
            tracking.end_bar()
        outcomes = advise(targets, order, stop, _observer(output, order), tracking)
        output.interrupted = stop.is_set()
    _print(output, outcomes, order)


def _has_memory(target: TargetEntry) -> bool:
    """Return whether there is anything to advise: not in a kernel thread."""
    return target.error is None and target.status is not None and target.status.rss > 0


def _observer(output: Output, order: Order) -> Silence | Bars:
    """Return bars, where somebody may look at them and something is done."""
    from pmadvise.command.work import (  # noqa: PLC0415 - not for the help
        Silence,
        observer_of,
    )

    if order.dry_run:
        return Silence()
    # What is touched is counted once more.
    budget = order.budget
    if budget is not None and order.touch:
        budget *= 2
    return observer_of(output, budget)


def _print(output: Output, outcomes: list[Outcome], order: Order) -> None:
    from pmadvise.command.outcome import (  # noqa: PLC0415 - rich is slow
        LOST,
        print_results,
        to_json,
        why_ended,
    )
    from pmadvise.command.work import swap_or_error  # noqa: PLC0415 - not for the help

    if output.json:
        for outcome in outcomes:
            output.write_json(to_json(outcome, order))
    elif not output.quiet:
        now = swap_or_error()
        print_results(
            output, outcomes, order, None if isinstance(now, OSError) else now
        )
    for outcome in outcomes:
        report = outcome.report
        if outcome.has_gone:
            continue
        if outcome.error is not None:
            output.error(outcome.target.subject, outcome.error)
        elif report is None or not (report.ended in LOST or _is_done(report, order)):
            output.failed = True
        elif report.ended in LOST:
            output.error(outcome.target.subject, str(why_ended(report, order)))
    if _is_short_of(outcomes, order):
        output.failed = True


def _is_done(report: Report, order: Order) -> bool:
    """Return whether all was advised that was asked for, or the budget used up."""
    if report.skipped:
        return False
    if report.ended == "budget":
        return order.budget is not None
    return report.ended == "complete"


def _is_short_of(outcomes: list[Outcome], order: Order) -> bool:
    """Return whether the floor of swap ended the work, and not the budget."""
    if not order.swap_floor or order.budget is None:
        return False
    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
    advised = sum(report.advised for report in reports)
    ended = any(report.ended == "budget" for report in reports)
    return ended and advised < order.budget - (PAGE_SIZE - 1)
