"""The command ``python -m pmadvise.selftest``: its options, its checks, its end."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from signal import SIGCHLD
from types import FrameType
from typing import NoReturn

from pmadvise import Advice
from pmadvise._native.process_madvise import probe
from pmadvise._reasons import how_to_allow
from pmadvise._streams import for_escapes, printable
from pmadvise.selftest.checks import CHECKS
from pmadvise.selftest.child import clean_up, signals_blocked
from pmadvise.selftest.program import SIGNALS
from pmadvise.selftest.report import Result, Summary, Verdict, brief, cannot, judge
from pmadvise.selftest.requirements import MIB, Skip, no_descriptors

_MAX_MIB = 1 << 20
_KILLED = "a seccomp filter kills callers of process_madvise: " + how_to_allow(
    "process_madvise"
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit."""
        self.exit(2, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


class _Interrupted(BaseException):
    """A signal asks the selftest to end; its argument is the signal."""


def main(arguments: list[str] | None = None) -> int:
    """Make the checks, print the results and the verdict; return the exit status."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(CHECKS))
        return 0
    names, required = _chosen(options)
    results: list[Result] = []
    verdict: Verdict | None = None
    ended: signal.Signals | None = None
    alive = True
    try:
        with _interruptible():
            try:
                alive = _survives()
                for result in _run_all(names, required, options.size, alive):
                    with signals_blocked():  # what is counted is printed
                        results.append(result)
                        if not options.json:
                            print(brief(result, results))
                    sys.stdout.flush()
                if not options.no_verdict:
                    verdict = judge(results) if alive else cannot(_KILLED)
            finally:
                _show_progress("")
                clean_up()
    except _Interrupted as interrupted:
        ended = interrupted.args[0]
    return Summary(results, verdict, ended, alive).conclude(options.json)


def _run_all(
    names: list[str], required: frozenset[str], size: int, alive: bool
) -> Iterator[Result]:
    """Make checks; yield each result.

    Args:
        names: Keys of CHECKS.
        required: The names of checks whose skip is a failure.
        size: Bytes of a child's memory, at most.
        alive: False where a filter kills callers: then every check is skipped.
    """
    for index, name in enumerate(names):
        _show_progress(f"{index + 1}/{len(names)} {name} ...")
        result = run(name, size) if alive else Result("skip", name, _KILLED)
        if result.verdict == "skip" and name in required:
            detail = f"required, and skipped: {result.detail}"
            result = replace(result, verdict="FAIL", detail=detail)
        _show_progress("")
        yield result


def _show_progress(text: str) -> None:
    """Show the progress on a terminal; the log of a CI is no terminal."""
    if sys.stderr.isatty() and not os.environ.get("CI"):
        for_escapes(sys.stderr).write(f"\r\033[K{text}")
        sys.stderr.flush()


def run(name: str, size: int) -> Result:
    """Make one check.

    Args:
        name: A key of CHECKS.
        size: Bytes of a child's memory, at most.
    """
    begin = time.monotonic()
    try:
        verdict, detail = "ok", CHECKS[name](size)
    except Skip as skip:
        verdict, detail = "skip", str(skip)
    except Exception as error:
        verdict, detail = _explain(error)
    line = " ".join(detail.split()) or "-"
    return Result(verdict, name, line, time.monotonic() - begin)


def _explain(error: Exception) -> tuple[str, str]:
    """Return verdict and detail for an error that left a check."""
    skip = no_descriptors(error)
    if skip is not None:
        return "skip", str(skip)
    where = traceback.extract_tb(error.__traceback__)[-1]
    kind = type(error).__name__
    return "FAIL", f"{kind}: {error} ({where.name}:{where.lineno})"


def _survives() -> bool:
    """Return whether a process that makes the call lives: a filter may kill it."""
    with signals_blocked():
        pid = os.fork()
        if pid == 0:
            probe(-1, Advice.COLD)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals raise _Interrupted, except those that are ignored.

    An ignored SIGCHLD, which is inherited, would reap the children unasked.
    """
    before = {number: signal.getsignal(number) for number in (*SIGNALS, SIGCHLD)}
    for number in SIGNALS:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.signal(SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for ignored in SIGNALS:  # so that the clean-up is not interrupted
        signal.signal(ignored, signal.SIG_IGN)
    raise _Interrupted(signal.Signals(number))


def _chosen(options: argparse.Namespace) -> tuple[list[str], frozenset[str]]:
    """Return the names of the checks to make, and of those that are required."""
    all_required = options.strict or "all" in options.require
    wanted = {*options.only, *options.require} - {"all"} if options.only else set()
    every_check = not wanted or "all" in options.only
    names = [name for name in CHECKS if every_check or name in wanted]
    return names, frozenset(names if all_required else options.require)


def _names(text: str) -> list[str]:
    """Return the names of checks in a list with commas."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name != "all" and name not in CHECKS:
            raise argparse.ArgumentTypeError(
                f"{name!r} is no check: --list has their names"
            )
    return names


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_MIB:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of MiB, 1 or more")
    return int(text) * MIB


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m pmadvise.selftest",
        allow_abbrev=False,
        description="Try what process_madvise(2) can do on this host. Prints a line "
        "for each check: ok, skip (with what is missing, and how to get it) or FAIL; "
        "then a verdict: whether this host and user can advise another process.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="checks:\n"
        + "".join(
            f"  {name:14}{(check.__doc__ or '').strip()}\n"
            for name, check in CHECKS.items()
        )
        + "\nexit status: 0; 1 a check failed, or the verdict is no; 2 wrong options; "
        "128 + N ended by signal N",
    )
    add = parser.add_argument
    add(
        "--size",
        type=_size,
        default=64 * MIB,
        metavar="MIB",
        help="memory of a child at most, in MiB (default 64)",
    )
    for option, meaning in (
        ("--only", "make only these checks"),
        ("--require", "make a skip of these checks a failure; or all"),
    ):
        add(
            option,
            type=_names,
            action="extend",
            default=[],
            metavar="NAME[,NAME...]",
            help=meaning,
        )
    add("--strict", action="store_true", help="the same as --require all")
    add(
        "--no-verdict",
        action="store_true",
        help="give no verdict: only the checks decide on the exit status",
    )
    add("--json", action="store_true", help="print one JSON document instead")
    add("--list", action="store_true", help="print the names of the checks, and end")
    return parser
