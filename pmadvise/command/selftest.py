"""Verb `pmadvise selftest`: ``python -m pmadvise.selftest``."""

from __future__ import annotations

import click

_HELP = """Try every advice on a child process, and look at the effect.

The same as `python -m pmadvise.selftest`, with its options: --help has them."""


@click.command(
    help=_HELP,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def selftest(arguments: tuple[str, ...]) -> None:
    """Pass the arguments on."""
    from pmadvise.selftest.command import main  # noqa: PLC0415 - not for the help

    raise click.exceptions.Exit(main(list(arguments)))


COMMANDS = {"selftest": selftest}
