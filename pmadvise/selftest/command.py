"""The options of the selftest, and the order of its parts."""

from __future__ import annotations

import argparse
import signal

from pmadvise.selftest.checks import CHECKS
from pmadvise.selftest.cleanup import clean_up
from pmadvise.selftest.report import Result, Summary, Verdict, brief
from pmadvise.selftest.requirements import MIB
from pmadvise.selftest.runner import (
    KILLED,
    Interrupted,
    interruptible,
    run_all,
    show_progress,
    survives,
)
from pmadvise.selftest.verdict import cannot, judge

_MAX_MIB = 1 << 20


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
        with interruptible():
            try:
                alive = survives()
                for result in run_all(names, required, options.size, alive):
                    results.append(result)
                    if not options.json:
                        print(brief(result, results), flush=True)
                if not options.no_verdict:
                    verdict = judge(results) if alive else cannot(KILLED)
            finally:
                show_progress("")
                clean_up()
    except Interrupted as interrupted:
        ended = interrupted.args[0]
    return Summary(results, verdict, ended, alive).conclude(options.json)


def _chosen(options: argparse.Namespace) -> tuple[list[str], frozenset[str]]:
    """Return the names of the checks to make, and of those that are required."""
    every = options.strict or "all" in options.require
    wanted = {*options.only, *options.require} - {"all"} if options.only else set()
    names = [n for n in CHECKS if not wanted or "all" in options.only or n in wanted]
    return names, frozenset(names if every else options.require)


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
    parser = argparse.ArgumentParser(
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
        ("--only", "make these checks alone"),
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
        help="give no verdict: the checks alone decide on the exit status",
    )
    add("--json", action="store_true", help="print one JSON document instead")
    add("--list", action="store_true", help="print the names of the checks, and end")
    return parser
