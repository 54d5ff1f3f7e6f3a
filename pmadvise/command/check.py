"""Verb `pmadvise check`: the answers of support() as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from pmadvise.advice import advice_name
from pmadvise.command import options
from pmadvise.command.output import Output
from pmadvise.command.text import long_size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pmadvise import Answer, Support, TargetSupport

_MARKS = {"ok": ("✓", "ok"), "no": ("✗", "NO"), "may": ("!", "!")}
_STYLES = {"ok": "green", "no": "bold red", "may": "yellow"}


class Row(NamedTuple):
    """A line of the table."""

    mark: str
    """ "ok", "no", or "may": it can be done without."""
    what: str
    seen: str
    remedy: str = ""


_HELP = """Check what this host, this user and process PID allow.

The kernel is asked; nothing is changed. A row that fails has the remedy."""


@click.command(help=_HELP)
@click.argument("pid", type=options.pid, required=False)
@options.common
@click.pass_context
def check(context: click.Context, pid: int | None) -> None:
    """Print the answers about the host, and about a process if one is given."""
    run(options.output_of(context), pid)


COMMANDS = {"check": check}


def run(output: Output, pid: int | None) -> None:
    """Print the answers; fail if advising is refused."""
    from pmadvise import support  # noqa: PLC0415 - not for the help

    answers = support(pid)
    rows = list(_rows(answers))
    output.failed |= any(row.mark == "no" for row in rows)
    if output.json:
        output.write_json(answers.to_dict())
    elif not output.quiet:
        output.print(*_lines(output, rows))


def _lines(output: Output, rows: list[Row]) -> Iterator[RenderableType]:
    """Yield the rows, the answer beside the question or below it where it is narrow."""
    from rich.padding import Padding  # noqa: PLC0415 - not for the help
    from rich.text import Text  # noqa: PLC0415 - likewise

    marks = {key: mark[output.ascii_only] for key, mark in _MARKS.items()}
    left = max(map(len, marks.values())) + 2
    column = max(len(row.what) for row in rows) + 2
    is_narrow = output.console().width < left + 2 * column
    for row in rows:
        text = Text(output.name(row.seen))
        if row.remedy:
            text.append("\n" + output.name(row.remedy), style="bold")
        head = Text(marks[row.mark].ljust(left), style=_STYLES[row.mark])
        head.append(row.what, style="default")
        if is_narrow:
            yield head
            yield Padding(text, (0, 0, 0, left), expand=False)
            continue
        width = output.console().width - left - column
        for number, line in enumerate(text.wrap(output.console(), width)):
            before = head if number == 0 else Text()
            before.pad_right(left + column - len(before))
            yield before.append_text(line)


def _rows(answers: Support) -> Iterator[Row]:
    where = f", in a container of {answers.container}" if answers.container else ""
    yield Row("ok", "host", f"Linux {answers.kernel}, {answers.machine}{where}")
    yield _answer("pidfd_open(2)", answers.pidfd_open)
    yield _answer("process_madvise(2)", answers.process_madvise)
    for advice, answer in answers.advice.items():
        yield _answer(advice_name(advice), answer)
    yield _answer("other processes", answers.other_processes)
    yield _capability(
        "CAP_SYS_PTRACE", answers.cap_sys_ptrace, "to advise processes of other users"
    )
    yield _capability(
        "CAP_DAC_READ_SEARCH",
        answers.cap_dac_read_search,
        "to see which pages of other users' processes are in memory",
    )
    yield _swap(answers)
    for what, answer in (("cgroup", answers.cgroup), ("pressure", answers.pressure)):
        if not answer:
            yield _answer(what, answer, optional=True)
    yield _answer("own process", answers.own_process, optional=True)
    yield _answer("priority", answers.priority, optional=True)
    yield _answer("PROCMAP_QUERY", answers.procmap_query, optional=True)
    yield _answer("PAGEMAP_SCAN", answers.pagemap_scan, optional=True)
    yield _answer("memory.reclaim", answers.reclaim, optional=True)
    for name, answer in answers.idle.items():
        yield _answer(f"idle by {name}", answer, optional=True)
    freezers = ", ".join(answers.freezers)
    yield Row(
        "ok" if freezers else "may",
        "hold by the freezer",
        freezers or "no cgroup hierarchy that can freeze and be written to",
    )
    if answers.target is not None:
        yield from _target(answers.target)


def _target(target: TargetSupport) -> Iterator[Row]:
    yield _answer(f"process {target.pid}", target.may)
    if target.may:
        for advice, answer in target.advice.items():
            yield _answer(f"{advice_name(advice)} of it", answer)
        yield _answer("its pages", target.pages, optional=True)
        yield _answer("touch of its pages", target.touch, optional=True)
        yield _answer("its memory.reclaim", target.reclaim, optional=True)


def _answer(what: str, answer: Answer, optional: bool = False) -> Row:
    if answer:
        return Row("ok", what, "yes")
    return Row("may" if optional else "no", what, answer.reason, answer.remedy)


def _capability(name: str, there: bool, purpose: str) -> Row:
    if there:
        return Row("ok", name, "yes")
    return Row("may", name, f"missing: needed {purpose}")


def _swap(answers: Support) -> Row:
    allowed = answers.swap_allowed
    if answers.swap_total is None or answers.swap_free is None:
        return Row("may", "swap", answers.swap.reason, answers.swap.remedy)
    if not answers.swap_total:
        remedy = "turn swap on: zramctl or mkswap, then swapon"
        return Row("may", "swap", "off: pageout moves memory of files alone", remedy)
    text = f"{long_size(answers.swap_free)} free of {long_size(answers.swap_total)}"
    if allowed is not None:
        text += f"; this cgroup may use {long_size(allowed)} more"
    return Row("ok" if answers.swap_free else "may", "swap", text)
