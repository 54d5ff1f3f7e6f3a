"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

from pmadvise.command import types
from pmadvise.command.output import Output

F = TypeVar("F", bound=Callable[..., object])

METHODS = ("auto", "ptrace", "freezer", "sigstop")


def output_of(context: click.Context) -> Output:
    """Return the output of this run of the command."""
    return context.ensure_object(Output)


def _flag(name: str, text: str) -> Callable[[F], F]:
    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            setattr(output_of(context), name, True)

    return click.option(
        f"--{name}", is_flag=True, expose_value=False, callback=remember, help=text
    )


def _all(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return the decorators as one, in the order in which the help has them."""

    def decorate(function: F) -> F:
        for one in reversed(decorators):
            function = one(function)
        return function

    return decorate


def _complete_pid(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the processes whose ID begins so, with their names."""
    from pmadvise.command.targets import listed  # noqa: PLC0415 - rarely needed

    name = output_of(context).name
    return [
        CompletionItem(str(pid), help=name(comm))
        for pid, comm in listed()
        if str(pid).startswith(incomplete)
    ]


common = _all(
    _flag("json", "Print JSON, an object a line, for programs."),
    _flag("quiet", "Print errors alone; with --json the JSON too."),
    _flag("debug", "Print the traceback of each error."),
)

targets = _all(
    click.argument(
        "pid",
        type=types.pid,
        nargs=-1,
        shell_complete=_complete_pid,
    ),
    click.option(
        "--cgroup",
        metavar="PATH",
        multiple=True,
        type=click.Path(),
        help="The processes of a cgroup and those below it: its directory, or its "
        "path as /proc/PID/cgroup has it.",
    ),
    click.option(
        "--tree",
        metavar="PID",
        type=types.pid,
        multiple=True,
        shell_complete=_complete_pid,
        help="A process and its descendants.",
    ),
)

selection = _all(
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
        type=types.address_range,
        multiple=True,
        help="Addresses in hexadecimal, as /proc/PID/maps has them; alone they are "
        "asked as given, in memory or not.",
    ),
    click.option(
        "--min-size",
        metavar="SIZE",
        type=types.size,
        default=0,
        help="Mappings of at least this size.",
    ),
)

limits = _all(
    click.option(
        "--budget",
        metavar="SIZE|N%",
        type=types.budget,
        help="Advise at most so many bytes that are in memory (willneed: that are "
        "not), of all targets together. N%: of their VmRSS (willneed: VmSwap).",
    ),
    click.option(
        "--swap-floor",
        metavar="SIZE",
        type=types.size,
        default=0,
        help="Leave so much swap free; for pageout.",
    ),
    click.option(
        "--max-stall",
        metavar="TIME|none",
        type=types.stall,
        default="50ms",
        show_default=True,
        help="The longest that a call shall hold a target's mmap lock.",
    ),
    click.option(
        "--timeout",
        metavar="TIME",
        type=types.time,
        help="End after so long.",
    ),
    click.option(
        "--hold",
        metavar="METHOD",
        type=click.Choice(METHODS),
        help="Stop each target meanwhile: auto, ptrace, freezer or sigstop.",
    ),
)
