"""Verb `pmadvise show`: the memory of processes, and where it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pmadvise.command import options
from pmadvise.command.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pmadvise.command.layout import Layout
    from pmadvise.command.screen import Screen
    from pmadvise.command.targets import TargetEntry, Targets
    from pmadvise.command.tracking import Ages, Tracking
    from pmadvise.status import Status

_OTHER_LINES = 17
"""Lines of a screen beside those of the groups."""
_AGE_LINES = 10
"""Lines of the ages."""
_LEAST_GROUPS = 5
AGES = (10.0, 5.0, 2.0, 1.0)
"""Seconds, those of the table of --ages."""


_HELP = f"""Show where the memory of processes is.

Totals, as /proc/PID/status has them; a picture of the address space; and the
mappings, in groups (heap, stacks, anonymous memory, each file), with the bytes in
memory and in swap. Shared memory in swap is not seen: a process has no entry of it.

{options.TARGET_HELP}"""


@click.command(help=_HELP)
@options.targets
@click.option("--all", "every", is_flag=True, help="Every mapping, not in groups.")
@click.option(
    "--watch",
    metavar="TIME",
    type=options.positive_time,
    help="Refresh in place, until Ctrl-C or the end of the targets.",
)
@click.option(
    "--ages",
    is_flag=True,
    help="How much memory was not touched for how long: watches the targets for 10 s "
    "first; with --watch from now on.",
)
@options.common
@click.pass_context
def show(
    context: click.Context,
    wanted: options.Wanted,
    every: bool,
    watch: float | None,
    ages: bool,
) -> None:
    """Open the targets and print them."""
    from pmadvise.command.targets import Targets  # noqa: PLC0415 - not for the help

    options.require_targets(wanted)
    output, listed = options.output_of(context), Targets(*wanted)
    if ages:
        run_with_ages(output, listed, every, watch)
    else:
        run(output, listed, every, watch)


COMMANDS = {"show": show}


def run(output: Output, targets: Targets, every: bool, watch: float | None) -> None:
    """Print the memory of each target; again and again if it is to be watched."""
    for subject, refusal in targets.errors:
        output.error(subject, refusal)
    if watch is None:
        _print(output, targets, every)
        return
    try:
        _watch(output, targets, every, watch)
    except KeyboardInterrupt:
        output.interrupted = True


def run_with_ages(
    output: Output, targets: Targets, every: bool, watch: float | None
) -> None:
    """Print the memory of each target as run() does, by age too."""
    from pmadvise.command.tracking import track  # noqa: PLC0415 - not for the help
    from pmadvise.command.work import Interrupts  # noqa: PLC0415 - likewise

    for subject, refusal in targets.errors:
        output.error(subject, refusal)
    with Interrupts() as interrupts:
        stop = interrupts.event
        with track(targets, stop, output, bar=watch is None) as tracking:
            if watch is not None:
                _watch(output, targets, every, watch, tracking)
            else:
                tracking.watch(AGES)
                _print(output, targets, every, tracking)
        output.interrupted = stop.is_set()


def _screen(output: Output, every: bool, tracking: Tracking | None) -> Screen:
    """Return the Screen; on a terminal with no more groups than fit."""
    from pmadvise.command.screen import Screen  # noqa: PLC0415 - rich is slow

    console = output.console()
    if not console.is_terminal:
        return Screen(output, every, tracking=tracking)
    others = _OTHER_LINES if tracking is None else _OTHER_LINES + _AGE_LINES
    fitting = max(console.height - others, _LEAST_GROUPS)
    return Screen(output, every, fitting, tracking)


def _print(
    output: Output, targets: Targets, every: bool, tracking: Tracking | None = None
) -> None:
    screen = _screen(output, every, tracking)
    for index, (target, status, layout) in enumerate(_looks(output, targets)):
        if output.json:
            written = to_json(target, status, layout)
            if tracking is not None:
                written |= ages_to_json(tracking.ages(target))
            output.write_json(written)
        elif status is not None and not output.quiet:
            if index:
                output.print("")
            output.print(*screen.parts(target, status, layout))
        if output.is_lost:
            return


def _watch(
    output: Output,
    targets: Targets,
    every: bool,
    seconds: float,
    tracking: Tracking | None = None,
) -> None:
    """Refresh in place, until every target has gone or Ctrl-C."""
    from rich.console import Group as Lines  # noqa: PLC0415 - not for the help
    from rich.live import Live  # noqa: PLC0415 - likewise
    from rich.text import Text  # noqa: PLC0415 - likewise

    console = output.console()
    if output.json or not console.is_terminal:
        while not output.is_lost and _some_live(targets):
            _print(output, targets, every, tracking)
            if not _pause(seconds, tracking):
                return
        return
    with Live(console=console, auto_refresh=False) as live:
        while _some_live(targets):
            screen = _screen(output, every, tracking)
            parts: list[RenderableType] = []
            for target, status, layout in _looks(output, targets):
                if status is not None:
                    parts += [*screen.parts(target, status, layout), Text()]
            live.update(Lines(*parts), refresh=True)
            if not _pause(seconds, tracking):
                return


def _pause(seconds: float, tracking: Tracking | None) -> bool:
    """Sleep, and look at the ages; return False at Ctrl-C, where it does not raise."""
    if tracking is None:
        time.sleep(seconds)
        return True
    return tracking.pause(seconds)


def _some_live(targets: Targets) -> bool:
    return any(target.alive for target in targets)


def _looks(
    output: Output, targets: Targets
) -> Iterator[tuple[TargetEntry, Status | None, Layout | None]]:
    """Yield each target as it is now, None in the place of a refused part."""
    from pmadvise.command.layout import read_layout  # noqa: PLC0415 - not for the help

    for target in targets:
        status = layout = error = None
        try:
            if target.status is None and target.error is not None:
                raise target.error
            with target.open() as process:
                status = process.status()
                layout = read_layout(process)
            error = layout.refusal or target.error
        except OSError as refusal:
            error = refusal
        if error is not None and not target.may_have_gone(error):
            if str(error) != target.reported:  # once is enough
                output.error(target.subject, error)
            target.reported = str(error)
        yield target, status, layout


def to_json(
    target: TargetEntry, status: Status | None, layout: Layout | None
) -> dict[str, object]:
    """Return a target as --json prints it, null for a part that could not be read."""
    return {
        "pid": target.pid,
        "name": target.name,
        "status": None if status is None else status.to_dict(),
        "mappings": None
        if layout is None
        else [mapping.to_dict() for mapping in layout.mappings],
    }


def ages_to_json(ages: Ages | None) -> dict[str, object]:
    """Return what --ages adds for --json: null where a target is not tracked."""
    if ages is None:
        return dict.fromkeys(("ages", "unknown", "source", "grain"))
    return ages.to_dict()
