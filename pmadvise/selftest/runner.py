"""Makes the checks, one after the other, until a signal ends it."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from pmadvise import Advice
from pmadvise._native.process_madvise import probe
from pmadvise._reasons import how_to_allow
from pmadvise.selftest.checks import CHECKS
from pmadvise.selftest.cleanup import SIGNALS, signals_blocked
from pmadvise.selftest.report import Result
from pmadvise.selftest.requirements import Skip, no_descriptors

KILLED = "a seccomp filter kills callers of process_madvise: " + how_to_allow(
    "process_madvise"
)


class Interrupted(BaseException):
    """A signal asks the selftest to end; its argument is the signal."""


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


def survives() -> bool:
    """Return whether a process that makes the call lives: a filter may kill it."""
    with signals_blocked():
        pid = os.fork()
        if pid == 0:
            probe(-1, Advice.COLD)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for one in SIGNALS:  # so that the clean-up is not interrupted
        signal.signal(one, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number))


@contextmanager
def interruptible() -> Iterator[None]:
    """Let signals raise Interrupted, but for those that are ignored."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    for one, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(one, _interrupt)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def show_progress(text: str) -> None:
    """Show on a terminal what is going on; a CI's log is no terminal."""
    if sys.stderr.isatty() and not os.environ.get("CI"):
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def run_all(
    names: list[str], required: frozenset[str], size: int, alive: bool
) -> Iterator[Result]:
    """Make checks; yield each result.

    Args:
        names: Of CHECKS.
        required: Those of which a skip is a failure.
        size: Bytes of a child's memory, at most.
        alive: False where a filter kills callers: then all are skipped.
    """
    for index, name in enumerate(names):
        show_progress(f"{index + 1}/{len(names)} {name} ...")
        result = run(name, size) if alive else Result("skip", name, KILLED)
        if result.verdict == "skip" and name in required:
            detail = f"required, and skipped: {result.detail}"
            result = replace(result, verdict="FAIL", detail=detail)
        show_progress("")
        yield result
