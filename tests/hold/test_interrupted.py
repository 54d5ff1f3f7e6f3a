"""Exceptions of signal handlers, at any instant of a hold."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from helpers.hold_targets import (
    Running,
    check_nothing_left,
    every_method,
    hold_census,
)
from helpers.waiting import until

import pmadvise.hold

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_gc"),
    pytest.mark.timeout(method="thread"),  # the signal is theirs
]

HOLDS = 300
"""For each method; tests/stress/interrupted_holds.py does thousands."""
PACKAGE = os.path.dirname(pmadvise.hold.__file__)


class Interrupted(KeyboardInterrupt):
    """Raised by the test's own handler."""


@contextlib.contextmanager
def alarms(handler: Callable[..., None]) -> Iterator[None]:
    """Handle SIGALRM for a while."""
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def grid(method: str) -> list[float]:
    """Return the instants, in seconds: up to 600 us, and up to the end of a hold."""
    end = 3000 if method == "freezer" else 1200
    return [
        microseconds / 1e6
        for upto, n in ((600, HOLDS * 2 // 3), (end, HOLDS // 3))
        for microseconds in (1 + i * upto / n for i in range(n))
    ]


@every_method
def test_interrupted(target: Running, method: str, tmp_path: Any) -> None:
    """An exception at any instant: the target runs, and the next hold stops it."""
    # The handler writes, and so gives up the GIL; the exception, which is kept, keeps
    # each frame that it came through.
    log = (tmp_path / "log").open("w", buffering=1)
    interrupts = 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        log.write("interrupted\n")
        interrupts += 1
        raise Interrupted

    before = hold_census()
    with log, alarms(interrupt):
        for seconds in grid(method):
            kept, expected = [], interrupts + 1
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds)
                with target.hold(method, 20):
                    pass
                until(lambda n=expected: interrupts == n)  # type: ignore[misc]
            except Interrupted as error:
                kept.append(error)
            target.moves_on()
            with target.hold(method, 20) as again:
                assert target.is_held()
            assert again.broken is None
            assert kept
    check_nothing_left(before)
    target.check_free(method)


@every_method
def test_interrupted_beside_another(target: Running, method: str) -> None:
    """A holder in another thread is not disturbed, nor kept, by an interrupted one."""
    entered, leave = threading.Event(), threading.Event()
    struck: list[bool] = []

    def interrupt(*_: object) -> None:
        struck.append(True)
        raise Interrupted

    def other() -> None:
        for _ in range(HOLDS // 6):
            with target.hold(method, 20):
                entered.set()
                leave.wait(20)
                leave.clear()

    thread = threading.Thread(target=other)
    thread.start()
    with alarms(interrupt):
        for seconds in grid(method)[:: len(grid(method)) // (HOLDS // 6)][: HOLDS // 6]:
            entered.wait(20)
            entered.clear()
            struck.clear()
            with contextlib.suppress(Interrupted):
                signal.setitimer(signal.ITIMER_REAL, seconds)
                with target.hold(method, 20):
                    until(lambda: struck)
            assert target.is_held()
            leave.set()
    thread.join(20)
    assert not thread.is_alive()
    target.check_free(method)


class Injector:
    """Raises once, at the n-th event of the package's code in this thread.

    Args:
        n: From 0.
        opcodes: Whether each bytecode instruction is an event.
        only: Names of functions to strike in; empty: all.
    """

    def __init__(self, n: int, opcodes: bool = False, only: str = "") -> None:
        self.left = n
        self.opcodes = opcodes
        self.only = only
        self.struck = ""

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        """Be called by the interpreter; sys.settrace() describes how."""
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if self.only and frame.f_code.co_name != self.only:
            return None
        frame.f_trace_opcodes = self.opcodes
        if not self.struck and event != "exception":
            if self.left == 0:
                self.struck = f"{event} {frame.f_code.co_name}:{frame.f_lineno}"
                raise Interrupted
            self.left -= 1
        return self.trace

    def __enter__(self) -> Injector:
        sys.settrace(self.trace)
        return self

    def __exit__(self, *details: object) -> None:
        sys.settrace(None)


def strike(target: Running, method: str, injector: Injector) -> bool:
    """Hold once under an injector; return whether it struck."""
    kept: list[BaseException] = []
    before = hold_census()
    try:
        with injector, target.hold(method, 20):
            assert target.is_held()
    except Interrupted as error:
        kept.append(error)
    target.goes_on()
    check_nothing_left(before)
    assert bool(kept) == bool(injector.struck), injector.struck
    with target.hold(method, 20) as again:
        assert target.is_held(), injector.struck
    assert again.broken is None
    return bool(injector.struck)


@every_method
def test_each_line(target: Running, method: str) -> None:
    """An exception at any call, line or return of the package's code."""
    struck = 0
    for n in itertools.count():
        if not strike(target, method, Injector(n)):
            break
        struck += 1
    assert struck > 50
    target.check_free(method)


@pytest.mark.parametrize("function", ["__enter__", "_enter", "leave", "_leave", "join"])
def test_each_instruction(target: Running, function: str) -> None:
    """An exception at any bytecode instruction of what enters and leaves."""
    struck = 0
    for n in itertools.count():
        if not strike(target, "sigstop", Injector(n, opcodes=True, only=function)):
            break
        struck += 1
    assert struck > 5
    target.check_free("sigstop")


@every_method
def test_each_line_beside_another(target: Running, method: str) -> None:
    """The same while another hold lasts, which goes on and is left at its end."""
    with target.hold(method, 20) as other:
        for n in itertools.count():
            injector = Injector(n)
            with contextlib.suppress(Interrupted), injector, target.hold(method, 20):
                pass
            assert target.is_held(), injector.struck
            if not injector.struck:
                break
    assert other.broken is None
    target.check_free(method)
