"""Verbs of the command: their options, each once, for the guide and the man page."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import click

from pmadvise.command import options
from pmadvise.command.app import app


class Option(NamedTuple):
    """An option, as the help has it: its names with the value, and its text."""

    names: str
    text: str


class Group(NamedTuple):
    """A verb, or what several share."""

    title: str
    verbs: tuple[str, ...]
    options: tuple[Option, ...]
    help: str


def _options(context: click.Context) -> tuple[Option, ...]:
    parameters = context.command.params
    if context.parent is None:  # --help is told once; a command keeps its first names
        parameters = context.command.get_params(context)
    records = (parameter.get_help_record(context) for parameter in parameters)
    return tuple(Option(*record) for record in records if record and record[1])


def top() -> click.Context:
    """Return the context of the command itself."""
    return click.Context(app, info_name="pmadvise", **app.context_settings)


def contexts() -> dict[str, click.Context]:
    """Return the context of each verb, in the order of the help."""
    context = top()
    return {
        name: click.Context(command, info_name=name, parent=context)
        for name in app.list_commands(context)
        if (command := app.get_command(context, name)) is not None
    }


def takes_targets(context: click.Context) -> bool:
    """Return whether a verb takes any number of targets."""
    return any(
        parameter.nargs == -1 and parameter.name == "pid"
        for parameter in context.command.params
    )


def groups() -> list[Group]:
    """Return the options of all verbs, of targets, of the advices, and of each verb.

    An option, or a paragraph of the help, that a group before has is in no later one.
    """
    found = contexts()
    of_verb = {name: _options(context) for name, context in found.items()}
    of_verb["selftest"] = _of_selftest()
    many = tuple(name for name, context in found.items() if takes_targets(context))
    advices = tuple(name for name in many if _has(of_verb[name], "--dry-run"))
    every = Group("Every verb", tuple(found), _options(top()), options.UNITS_HELP)
    told = [every]
    for title, names in (("Targets", many), ("Advices", advices), *_alone(found)):
        before = [group for group in told if {*names} <= {*group.verbs}]
        known = {option for group in before for option in group.options}
        shared = (
            option
            for option in of_verb[names[0]]
            if option not in known and all(option in of_verb[name] for name in names)
        )
        text = options.TARGET_HELP if title == "Targets" else ""
        if title in found:
            text = found[title].command.help or ""
            for before_it in (options.UNITS_HELP, options.TARGET_HELP):
                text = text.replace(before_it, "")
        told.append(Group(title, names, tuple(shared), text))
    return told


def _alone(names: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    return [(name, (name,)) for name in names]


def _has(options: tuple[Option, ...], name: str) -> bool:
    return any(option.names.split()[0] == name for option in options)


def usage(context: click.Context) -> str:
    """Return the line after "Usage:"."""
    pieces = context.command.collect_usage_pieces(context)
    return " ".join([context.command_path, *pieces])


def paragraphs(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the paragraphs of a help text, and whether its lines stay as they are."""
    for paragraph in filter(str.strip, text.strip().split("\n\n")):
        if paragraph.startswith("\b\n"):
            yield True, paragraph[2:].rstrip()
        else:
            yield False, " ".join(paragraph.split())


@functools.cache
def _of_selftest() -> tuple[Option, ...]:
    """Return the options of the verb that reads its own, from its help."""
    text = subprocess.run(
        [sys.executable, "-m", "pmadvise.selftest", "--help"],
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    listed = text.partition("\noptions:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^  (?=-)", listed, flags=re.MULTILINE)[1:]
    parts = (re.split(r" {2,}|\n +", entry.strip(), maxsplit=1) for entry in entries)
    return tuple(Option(names, " ".join(rest.split())) for names, rest in parts)
