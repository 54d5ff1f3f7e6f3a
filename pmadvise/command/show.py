"""`pmadvise show`: where the memory of processes is."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from pmadvise.command.mappings import Layout, read_layout
from pmadvise.command.output import Output
from pmadvise.command.screen import Screen
from pmadvise.command.targets import Target, Targets
from pmadvise.status import Status

_OTHER_LINES = 17
"""Lines of a screen beside those of the groups."""
_LEAST_GROUPS = 5


def show(output: Output, targets: Targets, every: bool, watch: float | None) -> None:
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


def _screen(output: Output, every: bool) -> Screen:
    """Return what renders; on a terminal with no more groups than fit."""
    console = output.console()
    if not console.is_terminal:
        return Screen(output, every)
    fitting = max(console.height - _OTHER_LINES, _LEAST_GROUPS)
    return Screen(output, every, fitting)


def _print(output: Output, targets: Targets, every: bool) -> None:
    screen = _screen(output, every)
    for index, (target, status, layout) in enumerate(_looks(output, targets)):
        if output.json:
            output.write_json(to_json(target, status, layout))
        elif status is not None and not output.quiet:
            if index:
                output.console().print()
            for part in screen.parts(target, status, layout):
                output.console().print(part)


def _watch(output: Output, targets: Targets, every: bool, seconds: float) -> None:
    """Refresh in place, until every target has gone or Ctrl-C."""
    console = output.console()
    if output.json or not console.is_terminal:
        while _some_live(targets):
            _print(output, targets, every)
            time.sleep(seconds)
        return
    with Live(console=console, auto_refresh=False) as live:
        while _some_live(targets):
            screen = _screen(output, every)
            parts: list[RenderableType] = []
            for target, status, layout in _looks(output, targets):
                if status is not None:
                    parts += [*screen.parts(target, status, layout), Text()]
            live.update(Lines(*parts), refresh=True)
            time.sleep(seconds)


def _some_live(targets: Targets) -> bool:
    return any(one.process is not None and one.process.alive for one in targets)


def _looks(
    output: Output, targets: Targets
) -> Iterator[tuple[Target, Status | None, Layout | None]]:
    """Yield each target as it is now, what is missing replaced by None."""
    for target in targets:
        if target.process is None:
            if target.error is not None:
                output.error(target.subject, target.error)
                target.error = None  # once is enough
            yield target, None, None
            continue
        status = layout = None
        try:
            status = target.process.status()
            layout = read_layout(target.process)
            if layout.refusal is not None:
                raise layout.refusal
        except OSError as error:
            if str(error) != str(target.error):  # once is enough
                output.error(target.subject, error)
            target.error = error
        yield target, status, layout


def to_json(
    target: Target, status: Status | None, layout: Layout | None
) -> dict[str, object]:
    """Return a target as --json prints it; null is what could not be read."""
    return {
        "pid": target.pid,
        "name": target.name,
        "status": None if status is None else status.to_dict(),
        "mappings": None
        if layout is None
        else [one.to_dict() for one in layout.mappings],
    }
