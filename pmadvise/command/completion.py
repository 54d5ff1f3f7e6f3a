"""Completion by a shell: processes, their names and users, methods of a hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from pmadvise.command.output import Output

if TYPE_CHECKING:
    from pmadvise.status import Status

_PLAIN = re.compile(r"[\w.,:@+-]+")
"""A name that neither a shell nor a terminal nor a glob interprets."""


def complete_pid(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the processes whose ID begins so, with their names."""
    name = context.ensure_object(Output).name
    return [
        CompletionItem(str(pid), help=name(status.name))
        for pid, status in _listed()
        if str(pid).startswith(incomplete)
    ]


def complete_name(
    _context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the plain names of processes that begin so."""
    return _plain((status.name for _, status in _listed()), incomplete)


def complete_user(
    _context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the users who have processes, and whose plain names begin so."""
    from pmadvise.command.text import user_name  # noqa: PLC0415 - rarely needed

    return _plain((user_name(status.uid) for _, status in _listed()), incomplete)


def hold_methods() -> tuple[str, ...]:
    """Return the methods of Process.hold()."""
    from pmadvise.hold import METHODS  # noqa: PLC0415 - where a hold is asked for

    return "auto", *METHODS


def complete_method(
    _context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the methods of Process.hold() that begin so."""
    return _plain(hold_methods(), incomplete)


def _plain(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return those that begin so, each once."""
    return [
        CompletionItem(name)
        for name in sorted({*names})
        if name.startswith(incomplete) and _PLAIN.fullmatch(name)
    ]


def _listed() -> Iterator[tuple[int, Status]]:
    """Yield the ID and the state of each process that has memory."""
    from pmadvise.group import processes  # noqa: PLC0415 - rarely needed

    for process in processes():
        with process, suppress(OSError):
            yield process.pid, process.status()
