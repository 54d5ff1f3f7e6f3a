"""Targets that exec, exit or are killed at every line of an advise() or a hold."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from helpers.stress_rounds import ADVICES, Stress, check_account
from helpers.stress_targets import REST, StressTarget
from helpers.waiting import until

import pmadvise
from pmadvise import Advice, Process
from pmadvise.hold import shared

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_compiler]

PACKAGE = os.path.dirname(pmadvise.__file__)
SIZE = 4
"""Pages of each of the target's areas."""
STRIDE, LONG_STRIDE = 61, 13
"""The short run has an event at one of so many lines, the long one more often."""


class AtLine:
    """Does something at the n-th line of the package that is run."""

    def __init__(self, n: int, event: Callable[[], None]) -> None:
        self.left, self._event = n, event
        self.done = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Trace the functions of the package."""
        if self.done or not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.left -= 1
            if self.left < 0:
                self.done = True
                self._event()
        return self


@contextlib.contextmanager
def traced(function: AtLine) -> Iterator[None]:
    """Trace for a while."""
    before = sys.gettrace()
    sys.settrace(function)
    try:
        yield
    finally:
        sys.settrace(before)


def killed(target: StressTarget) -> None:
    target.kill()
    until(target.has_ended)


def exits(target: StressTarget) -> None:
    target.tell("x")
    until(target.has_ended)


def execs(target: StressTarget) -> None:
    before = target.started
    target.tell("e")
    until(lambda: target.started > before)


EVENTS = (killed, exits, execs)
each_event = pytest.mark.parametrize("event", EVENTS)


def lines_of(stress: Stress, name: str) -> Iterator[int]:
    """Yield the lines at which something is to happen, until it is closed."""
    stride = LONG_STRIDE if stress.seconds else STRIDE
    line = stress.rng(name).randrange(stride)
    while True:
        yield line
        line += stride


def work_to_the_end(
    stress: Stress, name: str, event: Callable[[StressTarget], None], work: Any
) -> None:
    """Let an event happen at each line of some work, until none is left."""
    n = 0
    for line in lines_of(stress, name):
        target = StressTarget(REST, SIZE)
        try:
            with Process(target.pid) as process:
                process.maps()
                at = AtLine(line, functools.partial(event, target))
                work(process, at)
            assert target.wrong == 0
            if event is execs or not at.done:
                assert target.verify()
        finally:
            target.close()
        n += at.done
        if not at.done:
            break
    stress.count(f"ends_{event.__name__}", n)
    assert n > 4


def advise(process: Process, advice: Advice, at: AtLine) -> None:
    """Advise while something happens; check the account, and what ended it."""
    with traced(at):
        try:
            method = getattr(process, advice.name.lower())
            report = method(measure=True, budget=1 << 30)
        except ProcessLookupError:
            assert at.done
            return
    check_account(report, None, advice)
    assert at.done or report.ended == "complete"


@each_event
@pytest.mark.parametrize("advice", ADVICES)
def test_advise(
    stress: Stress, event: Callable[[StressTarget], None], advice: Advice
) -> None:
    """Whenever a target ends or execs: a true account, or that it has ended."""
    name = f"{advice} {event.__name__}"
    work_to_the_end(stress, name, event, lambda p, at: advise(p, advice, at))


def look(process: Process, at: AtLine) -> None:
    """Look at everything while something happens."""
    with traced(at), contextlib.suppress(ProcessLookupError):
        space = process.maps()
        space.select(anonymous=True)
        space.changed()
        process.resident()
        process.swapped()
        process.memory()
        process.status()
        process.check(Advice.COLD)


@each_event
def test_look(stress: Stress, event: Callable[[StressTarget], None]) -> None:
    """Whenever a target ends or execs, looking at it succeeds or tells that alone."""
    work_to_the_end(stress, f"look {event.__name__}", event, look)


def strikes(target: StressTarget) -> None:
    """Kill, and do not wait: a tracer may have to reap first."""
    target.kill()
    time.sleep(0.001)  # an instant, not a synchronisation


@pytest.fixture
def traced_threads(monkeypatch: pytest.MonkeyPatch) -> list[AtLine]:
    """Trace the threads of holds by the AtLine that is put in here."""
    current: list[AtLine] = []
    start: Callable[..., int] = shared.thread.start_new_thread

    def start_traced(function: Callable[..., None], arguments: tuple[Any, ...]) -> int:
        def run() -> None:
            sys.settrace(current[-1])
            function(*arguments)

        return start(run, ())

    monkeypatch.setattr(shared.thread, "start_new_thread", start_traced)
    return current


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_hold(stress: Stress, method: str, traced_threads: list[AtLine]) -> None:
    """Whenever a target is killed, holding it succeeds or tells that alone."""

    def hold(process: Process, at: AtLine) -> None:
        traced_threads.append(at)
        with (
            traced(at),
            contextlib.suppress(ProcessLookupError),
            process.hold(method, 20),
        ):
            pass

    work_to_the_end(stress, f"hold {method}", strikes, hold)
