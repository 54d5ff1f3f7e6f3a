"""Manual: the man page, from the help: ``python docs/manual.py > docs/pmadvise.1``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from pmadvise.command.app import app

_HEAD = r""".\" Written by python docs/manual.py: do not edit.
.TH PMADVISE 1 "" "pmadvise" "User Commands"
.SH NAME
pmadvise \- look at the memory of processes, and advise the kernel about it"""
_SEE_ALSO = r""".SH SEE ALSO
.BR process_madvise (2),
.BR madvise (2),
.BR proc_pid_maps (5),
.BR proc_pid_status (5)"""


def page() -> str:
    """Return the man page in the macros of man(7)."""
    context = click.Context(app, info_name="pmadvise", **app.context_settings)
    lines = [_HEAD, ".SH SYNOPSIS"]
    commands = [
        (command, click.Context(command, info_name=name, parent=context))
        for name in app.list_commands(context)
        if (command := app.get_command(context, name))
    ]
    for _, inner in [(app, context), *commands]:
        lines += [".PP", _usage(inner)]
    lines += [".SH DESCRIPTION", *_paragraphs(app.help or ""), ".SH OPTIONS"]
    lines += _options(app, context)
    lines += [".SH COMMANDS"]
    for command, inner in commands:
        lines += [f".SS {_escape(command.name or '')}"]
        lines += _paragraphs(command.help or "")
        lines += _options(command, inner)
    lines += [".SH NOTES", *_paragraphs(app.epilog or ""), _SEE_ALSO]
    return "\n".join(lines) + "\n"


def _usage(context: click.Context) -> str:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    return f".B {_escape(context.command_path)}\n{_escape(pieces)}"


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text, those that click does not wrap as is."""
    for paragraph in text.strip().split("\n\n"):
        is_literal = paragraph.startswith("\b\n")
        yield ".PP"
        if is_literal:
            yield f".nf\n{_escape(paragraph[2:])}\n.fi"
        else:
            yield _escape(" ".join(paragraph.split()))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            name, text = record
            yield f".TP\n.B {_escape(name)}\n{_escape(text)}"


def _escape(text: str) -> str:
    """Return a text that no line of is taken for a macro."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return "\n".join(
        rf"\&{line}" if line.startswith(".") else line for line in text.split("\n")
    )


if __name__ == "__main__":
    sys.stdout.write(page())
