"""Interrupt holds at random instants, thousands of times, and look what is left.

    python tests/stress/interrupted_holds.py [--holds 20000] [--method ptrace ...]

A signal strikes within the first 600 us (or --window) of each hold; its handler writes
to a file, as one that logs does, and raises KeyboardInterrupt; the exception is kept,
and with it the frames. After each hold the target must run, and the next hold must
really stop it; in the end no descriptor, thread, child or table entry may be left.
The freezer needs root and a cgroup v2 hierarchy to write to. Exit status 1 if anything
went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.hold_targets import Running, cgroup_of, check_nothing_left, hold_census

from pmadvise.hold import METHODS


class Tally:
    """What was counted over the holds of one method."""

    def __init__(self) -> None:
        self.entered = self.too_late = self.left_stopped = self.not_held = 0
        self.errors: list[str] = []


def interrupt_one(target: Running, method: str, delay: float, tally: Tally) -> None:
    """Interrupt one hold, then see that the target runs and can be held."""
    kept: list[BaseException] = []
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        with target.hold(method, 20):
            tally.entered += 1
        tally.too_late += 1
        while True:
            time.sleep(0.001)  # the signal ends it, now or after one of these
    except KeyboardInterrupt as error:
        kept.append(error)
    except OSError as error:
        tally.errors.append(repr(error))
    try:
        target.moves_on()
    except AssertionError:
        tally.left_stopped += 1
        return
    with target.hold(method, 20) as again:
        before = target.steps()
        time.sleep(0.0005)
        tally.not_held += target.steps() != before or not target.is_held()
    tally.not_held += again.broken is not None
    kept.clear()


def run(method: str, holds: int, window: float) -> bool:
    """Interrupt `holds` holds by one method; print and return how it went."""
    log = tempfile.TemporaryFile("w", buffering=1)  # noqa: SIM115 - closed below

    def interrupt(*_: Any) -> None:
        log.write("interrupted\n")
        raise KeyboardInterrupt

    tally = Tally()
    old = signal.signal(signal.SIGALRM, interrupt)
    with contextlib.ExitStack() as stack:
        stack.callback(log.close)
        stack.callback(signal.signal, signal.SIGALRM, old)
        target = Running()
        stack.callback(target.close)
        if method == "freezer":
            stack.enter_context(cgroup_of(2)).add(target.pid)
        census = hold_census()
        begin = time.monotonic()
        for _ in range(holds):
            interrupt_one(target, method, random.uniform(1e-6, window), tally)
        check_nothing_left(census)
        print(
            f"{method:8} {holds} holds, {holds - tally.too_late} interrupted, "
            f"{tally.entered} blocks entered, {tally.left_stopped} left stopped, "
            f"{tally.not_held} next holds that did not hold, "
            f"{len(tally.errors)} errors {tally.errors[:3]}, nothing left, "
            f"{time.monotonic() - begin:.0f} s",
            flush=True,
        )
    return not (tally.left_stopped or tally.not_held or tally.errors)


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description="Interrupt holds.")
    parser.add_argument("--holds", type=int, default=20_000)
    parser.add_argument("--method", choices=METHODS, nargs="+", default=METHODS)
    parser.add_argument("--window", type=float, default=600, help="microseconds")
    options = parser.parse_args()
    results = [run(m, options.holds, options.window / 1e6) for m in options.method]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
