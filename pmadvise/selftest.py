"""Tell an operator what this host can do: ``python -m pmadvise.selftest``.

Forks children, advises their memory, and looks at what became of it. Standard library
and pmadvise only. Exit status: 0; 1 if a check failed; 2 if the options are wrong; 128
and the number of the signal that interrupted it. It leaves nothing behind in any case.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any

from pmadvise import Advice, _host, _sys, support
from pmadvise import _selftest_effects as effects
from pmadvise import _selftest_rules as rules
from pmadvise._selftest_child import MIB, SIGNALS, Skip, leave_nothing, uninterrupted

CHECKS: dict[str, Callable[[int], str]] = {
    name: check
    for module in (effects, rules)
    for name, check in (
        (key.removeprefix("check_"), value)
        for key, value in vars(module).items()
        if key.startswith("check_")
    )
}
"""Every check by its name: it returns what it saw, and raises Skip or an error."""

KILLED = "a seccomp filter kills who calls process_madvise: " + _host.how_to_allow(
    "process_madvise"
)


class Interrupted(BaseException):
    """A signal asks the selftest to end; its argument is the signal."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a check: verdict is "ok", "skip" or "FAIL"."""

    verdict: str
    name: str
    detail: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.verdict} {self.name} - {self.detail}"


def run(name: str, size: int) -> Result:
    """Make one check.

    Args:
        name: One of CHECKS.
        size: Bytes of a child's memory, at most.
    """
    begin = time.monotonic()
    try:
        verdict, detail = "ok", CHECKS[name](size)
    except Skip as skip:
        verdict, detail = "skip", str(skip)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        verdict = "FAIL"
        detail = f"{type(error).__name__}: {error} ({where.name}:{where.lineno})"
    line = " ".join(detail.split()) or "-"
    return Result(verdict, name, line, time.monotonic() - begin)


def survives() -> bool:
    """Tell whether a process that makes the call lives: a filter may kill it."""
    with uninterrupted():
        pid = os.fork()
        if pid == 0:
            _sys.probe(-1, Advice.COLD)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    for one in SIGNALS:  # what is being undone then is not interrupted
        signal.signal(one, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have signals raise Interrupted, but for those that are ignored."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    for one, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(one, _interrupt)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


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
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of MiB, 1 or more")
    return int(text) * MIB


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pmadvise.selftest",
        description="Tell what process_madvise(2) can do on this host. Prints a line "
        "for each check: ok, skip (with what is missing, and how to get it) or FAIL.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="checks:\n"
        + "".join(
            f"  {name:14}{(check.__doc__ or '').strip()}\n"
            for name, check in CHECKS.items()
        )
        + "\nexit status: 0; 1 a check failed; 2 wrong options; 128 + N ended by "
        "signal N",
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
        ("--require", "have these checks not be skipped: a skip is a failure; or all"),
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
    add("--json", action="store_true", help="print one JSON document instead")
    add("--list", action="store_true", help="print the names of the checks, and end")
    return parser


def _progress(text: str) -> None:
    """Show what is going on, where somebody sees it: a CI's log is no terminal."""
    if sys.stderr.isatty() and not os.environ.get("CI"):
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _run_all(
    names: list[str], required: frozenset[str], size: int, results: list[Result]
) -> Iterator[Result]:
    alive = survives()
    for index, name in enumerate(names):
        _progress(f"{index + 1}/{len(names)} {name} ...")
        result = run(name, size) if alive else Result("skip", name, KILLED)
        if result.verdict == "skip" and name in required:
            result = replace(
                result, verdict="FAIL", detail=f"required, and skipped: {result.detail}"
            )
        results.append(result)
        _progress("")
        yield result


def main(arguments: list[str] | None = None) -> int:
    """Make the checks, print what came of them, and return the exit status."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(CHECKS))
        return 0
    every = options.strict or "all" in options.require
    wanted = {*options.only, *options.require} - {"all"} if options.only else set()
    names = [n for n in CHECKS if not wanted or "all" in options.only or n in wanted]
    required = frozenset(names if every else options.require)
    results: list[Result] = []
    ended: signal.Signals | None = None
    try:
        with _interruptible():
            try:
                for result in _run_all(names, required, options.size, results):
                    if not options.json:
                        print(_brief(result, results), flush=True)
            finally:
                _progress("")
                leave_nothing()
    except Interrupted as interrupted:
        ended = interrupted.args[0]
    return _conclude(results, options.json, ended)


def _brief(result: Result, results: list[Result]) -> Result:
    """Say what was said of an earlier check in short: the advice in () is long."""
    first = next(one for one in results if one.detail == result.detail)
    short, bracket, _ = result.detail.partition(" (")
    if first is result or not bracket:
        return result
    return replace(result, detail=f"{short} (how: see {first.name})")


def _conclude(
    results: list[Result], as_json: bool, ended: signal.Signals | None
) -> int:
    counts = [sum(r.verdict == v for r in results) for v in ("ok", "FAIL", "skip")]
    summary = "{} passed, {} failed, {} skipped".format(*counts)
    if ended:
        print(f"interrupted by {ended.name}", file=sys.stderr)
    if as_json:
        document: dict[str, Any] = {
            "support": support().to_dict() if survives() else None,
            "results": [asdict(result) for result in results],
            "passed": counts[0],
            "failed": counts[1],
            "skipped": counts[2],
            "interrupted": ended.name if ended else None,
            "summary": summary,
        }
        print(json.dumps(document, indent=2))
    else:
        print(summary, flush=True)
    if ended:
        return 128 + ended
    return 1 if counts[1] else 0


if __name__ == "__main__":
    sys.exit(main())
