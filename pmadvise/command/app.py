"""App: the group of the verbs, each of which is loaded when it is needed."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from pmadvise import _interrupt
from pmadvise._streams import printable
from pmadvise.command import options
from pmadvise.command.examples import examples
from pmadvise.command.output import Output

_EPILOG = """\b
Exit status: 0 everything requested was advised or reclaimed, or the budget was
used up; 1 something was not, failed, or could not be written; 2 wrong usage;
130 interrupted by Ctrl-C, after the report. A process that was not given by its
PID may exit meanwhile: that is no failure. Errors are one line each on stderr.
NO_COLOR turns colours off.

\b
Shell completion, for bash (or zsh; for fish: ... | source):
  eval "$(_PMADVISE_COMPLETE=bash_source pmadvise)"
"""

VERBS = {
    "top": "top",
    "show": "show",
    "cold": "advise",
    "pageout": "advise",
    "willneed": "advise",
    "collapse": "advise",
    "reclaim": "reclaim",
    "check": "check",
    "selftest": "selftest",
}
"""Each verb, in the order of the help, and the module whose COMMANDS has it."""


class _Verbs(click.Group):
    """A group that loads a verb when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the verbs."""
        return list(VERBS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """Return a verb with its examples, None if there is none of that name."""
        if cmd_name not in VERBS:
            return None
        module = import_module(f"pmadvise.command.{VERBS[cmd_name]}")
        command: click.Command = module.COMMANDS[cmd_name]
        command.epilog = examples(cmd_name)
        _interrupt.raises()
        return command


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from importlib import metadata  # noqa: PLC0415 - takes long to import

    try:
        version = metadata.version("pmadvise")
    except metadata.PackageNotFoundError:  # run from a tree that is not installed
        version = "of a source tree"
    click.echo(f"pmadvise, version {version}")
    context.exit()


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=_EPILOG,
    no_args_is_help=False,
    help="Look at the memory of processes, and advise the kernel about it.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@options.common
def app() -> None:
    """Take the options that stand before a verb: none but --version."""


def run(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, or exit with it."""
    output = Output()
    try:
        app.main(arguments, prog_name="pmadvise", standalone_mode=False, obj=output)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        return _interrupt.INTERRUPTED
    except OSError as error:
        output.error("", error)
    except Exception as error:
        output.trace(error)
        text = f"internal error: {type(error).__name__}: {error} (--debug shows where)"
        output.error("", text)
    return output.status()


def _usage(error: click.ClickException) -> int:
    """Print a wrong usage as one line."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "pmadvise"
    message = error.format_message().replace("\n", " ")
    sys.stderr.write(f"pmadvise: {printable(message)} (see {path} --help)\n")
    return error.exit_code
