"""The command line: what to run, what to write, and how it ends."""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType

from benchmarks import needs, report
from benchmarks.harness import Benchmark, Result, run
from benchmarks.machine import Machine

NO_BOUND, WRONG_USAGE = 1, 2


class StoppedError(BaseException):
    """A signal ends the run; what was measured is reported."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM raise StoppedError; later ones are ignored."""
    both = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        for one in both:
            signal.signal(one, signal.SIG_IGN)  # so that all is undone
        raise StoppedError(number)

    before = {one: signal.signal(one, stop) for one in both}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Progress:
    """A line on a terminal that shows where the run is."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._begin = monotonic()

    def show(self, position: str, number: int, rounds: int) -> None:
        """Show a round; round 0 is the setting up."""
        if self._on:
            what = f"round {number} of {rounds}" if rounds else "setting up"
            seconds = monotonic() - self._begin
            sys.stderr.write(f"\r\033[K{position}: {what}, {seconds:.0f} s")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._on:
            sys.stderr.write("\r\033[K")


def arguments(
    argv: Sequence[str] | None, suite: Sequence[Benchmark]
) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure pmadvise. Exit status: 0; 1 if a bound does not hold; "
        "2 wrong usage, or something is missing; 128 + N if signal N ended it, after "
        "the table of what was measured.",
    )
    add = parser.add_argument
    add("--only", action="append", metavar="NAME", help="run this one (repeatable)")
    add("--list", action="store_true", help="print the names, and run nothing")
    add("--json", type=Path, metavar="FILE", help="write all samples there")
    add("--plots", type=Path, metavar="DIR", help="draw an SVG of each there")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add(
        "--readme", type=Path, metavar="FILE", help="write the bounds between its marks"
    )
    add("--guide", type=Path, metavar="FILE", help="write all of it between its marks")
    options = parser.parse_args(argv)
    known = [benchmark.name for benchmark in suite]
    for name in options.only or ():
        if name not in known:
            parser.error(f"no benchmark is named {name!r}: {', '.join(known)}")
    if options.plots and not importlib.util.find_spec("matplotlib"):
        parser.error("--plots needs matplotlib: pip install --group benchmarks")
    if (options.readme or options.guide) and options.only:
        parser.error("--readme and --guide want the whole table, without --only")
    return options


def main(suite: Sequence[Benchmark], argv: Sequence[str] | None = None) -> int:
    """Run what was asked for, report it, and return the exit status."""
    options = arguments(argv, suite)
    chosen = [one for one in suite if not options.only or one.name in options.only]
    if options.list:
        width = max(len(one.name) for one in suite)
        print(*(f"{one.name:{width}}  {one.title}" for one in chosen), sep="\n")
        return 0
    if missing := needs.missing(chosen):
        print("benchmarks: this is needed, and missing:", file=sys.stderr)
        print(*(f"  {line}" for line in missing), sep="\n", file=sys.stderr)
        print("--only NAME runs others", file=sys.stderr)
        return WRONG_USAGE
    machine, begin = Machine.here(), monotonic()
    results, status = measured(chosen)
    seconds = monotonic() - begin
    print(f"{machine}\n{report.text(results)}\n{seconds:.0f} s")
    written(options, results, machine, seconds)
    return status


def measured(chosen: Sequence[Benchmark]) -> tuple[list[Result], int]:
    """Run benchmarks, and return the results so far with the exit status."""
    results: list[Result] = []
    progress = Progress()
    try:
        with stoppable():
            for i, benchmark in enumerate(chosen, start=1):
                position = f"{i} of {len(chosen)}, {benchmark.name}"
                results.append(Result(benchmark.name, benchmark.title))
                run(benchmark, results[-1], partial(progress.show, position))
    except StoppedError as stopped:
        return results, stopped.status
    finally:
        progress.clear()
    return results, 0 if all(result.holds for result in results) else NO_BOUND


def written(
    options: argparse.Namespace,
    results: Sequence[Result],
    machine: Machine,
    seconds: float,
) -> None:
    """Write the files that were asked for."""
    if options.json:
        document = report.document(results, machine, seconds)
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.markdown:
        print(report.markdown(results, machine))
    if all(result.complete for result in results):
        if options.readme:
            short = report.markdown(results, machine, bounds_only=True)
            report.rewrite(options.readme, short)
        if options.guide:
            report.rewrite(options.guide, report.markdown(results, machine))
    if options.plots:
        from benchmarks import plots  # noqa: PLC0415 - needs matplotlib

        plots.draw(results, machine, options.plots)
