"""Manual: the man page, from the help: ``python docs/manual.py > docs/pmadvise.1``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import verbs

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
    context, contexts = verbs.top(), verbs.contexts()
    lines = [_HEAD, ".SH SYNOPSIS"]
    for inner in (context, *contexts.values()):
        path, _, pieces = verbs.usage(inner).partition(" [")
        lines += [".PP", f".B {_escape(path)}\n{_escape(f'[{pieces}')}"]
    every, targets, advices, *rest = verbs.groups()
    lines += [".SH DESCRIPTION", *_text(context.command.help or "")]
    lines += [".SH OPTIONS", *_text(every.help), *_options(every.options)]
    for group in (targets, advices):
        lines += [f".SS {group.title}", ".PP", f"Of {_escape(', '.join(group.verbs))}."]
        lines += [*_text(group.help), *_options(group.options)]
    lines += [".SH COMMANDS"]
    for group in rest:
        epilog = contexts[group.title].command.epilog or ""
        lines += [f".SS {_escape(group.title)}", *_text(group.help)]
        lines += [*_options(group.options), *_text(epilog)]
    lines += [".SH NOTES", *_text(context.command.epilog or ""), _SEE_ALSO]
    return "\n".join(lines) + "\n"


def _text(text: str) -> Iterator[str]:
    for is_literal, paragraph in verbs.paragraphs(text):
        escaped = _escape(paragraph)
        yield ".PP"
        yield f".nf\n{escaped}\n.fi" if is_literal else escaped


def _options(options: tuple[verbs.Option, ...]) -> Iterator[str]:
    for option in options:
        yield f".TP\n.B {_escape(option.names)}\n{_escape(option.text)}"


def _escape(text: str) -> str:
    """Return a text that no line of is taken for a macro."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return "\n".join(
        rf"\&{line}" if line.startswith(".") else line for line in text.split("\n")
    )


if __name__ == "__main__":
    sys.stdout.write(page())
