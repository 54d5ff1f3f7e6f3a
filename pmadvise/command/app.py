"""The grammar of the command: its parts, their options, and where they lead."""

from __future__ import annotations

import math
import os
import sys

import click

from pmadvise.advice import Advice
from pmadvise.command import options, types
from pmadvise.command.output import INTERRUPTED, Output
from pmadvise.command.text import error_text, printable
from pmadvise.command.types import Share

_EPILOG = """\b
Exit status: 0 all that was asked was advised (a budget used up is all);
1 something was not, or failed; 2 wrong usage; 130 interrupted by Ctrl-C, after
the report. Errors are one line each on stderr. NO_COLOR turns colours off.

\b
Shell completion, for bash (or zsh; for fish: ... | source):
  eval "$(_PMADVISE_COMPLETE=bash_source pmadvise)"
"""
_TARGETS = """TARGET is any number of PIDs, --cgroup PATH and --tree PID."""
_SIZES = """Sizes: 4096, 64K, 1.5GiB (units of 1024). Times: 10ms, 2s."""
_SELECTION = f"""Without a selection: {{default}}. --anon, --file and --shared add up;
--path, --min-size and --range narrow the selection.

{_SIZES}"""


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
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=_EPILOG,
    no_args_is_help=False,
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
    """Look at the memory of processes, and advise the kernel about it."""


@app.command()
@options.targets
@click.option("--all", "every", is_flag=True, help="Every mapping, not in groups.")
@click.option(
    "--watch",
    metavar="SECONDS",
    type=types.positive_time,
    help="Refresh in place, until Ctrl-C or the end of the targets.",
)
@options.common
@click.pass_context
def show(
    context: click.Context,
    pid: tuple[int, ...],
    cgroup: tuple[str, ...],
    tree: tuple[int, ...],
    every: bool,
    watch: float | None,
) -> None:
    """Show where the memory of processes is.

    Totals, as /proc/PID/status has them; a picture of the address space; and the
    mappings, in groups (heap, stacks, anonymous memory, each file), with the bytes in
    memory and in swap. Shared memory in swap is not seen: a process has no entry of it.

    TARGET is any number of PIDs, --cgroup PATH and --tree PID.
    """
    from pmadvise.command.show import show as show_all  # noqa: PLC0415 - rich is slow
    from pmadvise.command.targets import Targets  # noqa: PLC0415 - for the same reason

    _require_targets(pid, cgroup, tree)
    with Targets(pid, cgroup, tree) as targets:
        show_all(options.output_of(context), targets, every, watch)


def _require_targets(*targets: tuple[object, ...]) -> None:
    if not any(targets):
        raise click.UsageError("give a TARGET: a PID, --cgroup PATH or --tree PID")


def _add(advice: Advice, summary: str, default: str) -> None:
    """Add the command of an advice."""

    @options.targets
    @options.selection
    @options.limits
    @click.option(
        "--dry-run",
        is_flag=True,
        help="Say what would be advised, check the permission, and advise nothing.",
    )
    @click.option(
        "--force", is_flag=True, help="Advise process 1, and this command, too."
    )
    @options.common
    @click.pass_context
    def command(  # noqa: PLR0913 - an argument each option
        context: click.Context,
        pid: tuple[int, ...],
        cgroup: tuple[str, ...],
        tree: tuple[int, ...],
        *,
        anon: bool,
        file: bool,
        shared: bool,
        path: tuple[str, ...],
        ranges: tuple[tuple[int, int], ...],
        min_size: int,
        budget: int | Share | None,
        swap_floor: int,
        max_stall: float,
        timeout: float | None,
        hold: str | None,
        dry_run: bool,
        force: bool,
    ) -> None:
        from pmadvise.command.advise import run_order  # noqa: PLC0415 - rich is slow
        from pmadvise.command.selection import Selection  # noqa: PLC0415
        from pmadvise.command.targets import Targets  # noqa: PLC0415
        from pmadvise.command.work import Order, bytes_of  # noqa: PLC0415

        _require_targets(pid, cgroup, tree)
        with Targets(pid, cgroup, tree) as targets:
            if isinstance(budget, Share):
                budget = bytes_of(budget, targets, advice)
            order = Order(
                advice,
                Selection(anon, file, shared, path, ranges, min_size),
                budget=budget,
                swap_floor=swap_floor,
                max_stall=None if max_stall == math.inf else max_stall,
                timeout=timeout,
                hold=hold,
                dry_run=dry_run,
            )
            run_order(options.output_of(context), targets, order, force)

    text = f"{summary}\n\n{_TARGETS} {_SELECTION.format(default=default)}"
    app.command(advice.name.lower(), help=text)(command)


_add(
    Advice.COLD,
    "Let memory be reclaimed first, when memory is short (MADV_COLD).",
    "the private anonymous memory that is in memory",
)
_add(
    Advice.PAGEOUT,
    "Reclaim memory now: to swap, or to its file (MADV_PAGEOUT).",
    "the private anonymous memory that is in memory and not executable",
)
_add(
    Advice.WILLNEED,
    "Read memory ahead, from swap or from its file (MADV_WILLNEED).",
    "the private anonymous memory that is in swap",
)
_add(
    Advice.COLLAPSE,
    "Make huge pages (MADV_COLLAPSE).",
    "blocks of the size of a huge page, of private anonymous memory, that are at "
    "least half in memory",
)


@app.command()
@click.argument("pid", type=types.pid, required=False)
@options.common
@click.pass_context
def check(context: click.Context, pid: int | None) -> None:
    """Check what this host, this user and process PID allow.

    The kernel is asked; nothing is changed. A row that fails has the remedy.
    """
    from pmadvise.command.check import check as check_all  # noqa: PLC0415 - slow

    check_all(options.output_of(context), pid)


@app.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def selftest(arguments: tuple[str, ...]) -> None:
    """Try every advice on a child process, and look at the effect.

    The same as `python -m pmadvise.selftest`, with its options: --help has them.
    """
    from pmadvise.selftest.command import main  # noqa: PLC0415 - for this alone

    sys.exit(main(list(arguments)))


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
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough
        sys.stdout = open(os.devnull, "w", encoding="ascii")  # noqa: SIM115
        return 1
    except OSError as error:
        output.error("", error_text(error))
    except Exception as error:
        if output.debug:
            raise
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
