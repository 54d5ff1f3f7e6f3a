"""`pmadvise check`: what this host, this process and a target allow, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from pmadvise._reasons import Answer
from pmadvise._support import Support, TargetSupport, support
from pmadvise.advice import advice_name
from pmadvise.command.output import Output
from pmadvise.command.text import long_size

_MARKS = {"ok": ("✓", "ok"), "no": ("✗", "NO"), "may": ("!", "!")}
_STYLES = {"ok": "green", "no": "bold red", "may": "yellow"}


class Row(NamedTuple):
    """A line of the table."""

    mark: str
    """ "ok", "no", or "may": it can be done without."""
    what: str
    seen: str
    remedy: str = ""


def check(output: Output, pid: int | None) -> None:
    """Print what is allowed; fail if advising is not."""
    found = support(pid)
    rows = list(_rows(found))
    output.failed |= any(row.mark == "no" for row in rows)
    if output.json:
        output.write_json(found.to_dict())
    elif not output.quiet:
        output.console().print(_table(output, rows))


def _table(output: Output, rows: list[Row]) -> Table:
    table = output.table(gap=2)
    table.add_column("", no_wrap=True, overflow="crop")
    table.add_column("what", no_wrap=True, overflow="crop")
    table.add_column("found, and what to do", overflow="fold")
    for row in rows:
        mark = _MARKS[row.mark][output.ascii_only]
        text = Text(output.name(row.seen))
        if row.remedy:
            text.append("\n" + output.name(row.remedy), style="bold")
        table.add_row(Text(mark, style=_STYLES[row.mark]), row.what, text)
    return table


def _rows(found: Support) -> Iterator[Row]:
    where = f", in a container of {found.container}" if found.container else ""
    yield Row("ok", "host", f"Linux {found.kernel}, {found.machine}{where}")
    yield _answer("pidfd_open(2)", found.pidfd_open)
    yield _answer("process_madvise(2)", found.process_madvise)
    for advice, answer in found.advice.items():
        yield _answer(advice_name(advice), answer)
    yield _answer("other processes", found.other_processes)
    yield _capability(
        "CAP_SYS_PTRACE", found.cap_sys_ptrace, "to advise processes of other users"
    )
    yield _capability(
        "CAP_DAC_READ_SEARCH",
        found.cap_dac_read_search,
        "to see which pages of other users' processes are in memory",
    )
    yield _swap(found)
    yield _answer("own process", found.own_process, optional=True)
    yield _answer("priority", found.priority, optional=True)
    yield _answer("PROCMAP_QUERY", found.procmap_query, optional=True)
    yield _answer("PAGEMAP_SCAN", found.pagemap_scan, optional=True)
    freezers = ", ".join(found.freezers)
    yield Row(
        "ok" if freezers else "may",
        "hold by the freezer",
        freezers or "no cgroup hierarchy that can freeze and be written to",
    )
    if found.target is not None:
        yield from _target(found.target)


def _target(target: TargetSupport) -> Iterator[Row]:
    yield _answer(f"process {target.pid}", target.may)
    if target.may:
        for advice, answer in target.advice.items():
            yield _answer(f"{advice_name(advice)} of it", answer)
        yield _answer("its pages", target.pages, optional=True)


def _answer(what: str, answer: Answer, optional: bool = False) -> Row:
    if answer:
        return Row("ok", what, "yes")
    return Row("may" if optional else "no", what, answer.reason, answer.remedy)


def _capability(name: str, there: bool, purpose: str) -> Row:
    if there:
        return Row("ok", name, "yes")
    return Row("may", name, f"missing: needed {purpose}")


def _swap(found: Support) -> Row:
    allowed = found.swap_allowed
    if not found.swap_total:
        remedy = "turn swap on: zramctl or mkswap, then swapon"
        return Row("may", "swap", "off: pageout moves memory of files alone", remedy)
    text = f"{long_size(found.swap_free)} free of {long_size(found.swap_total)}"
    if allowed is not None:
        text += f"; this cgroup may use {long_size(allowed)} more"
    return Row("ok" if found.swap_free else "may", "swap", text)
