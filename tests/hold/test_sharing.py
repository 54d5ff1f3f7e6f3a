"""Holds of one process that join, and what ends them from outside."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from helpers.hold_targets import Running, every_method

from pmadvise.hold.methods import MethodChoice


@every_method
def test_nested(target: Running, witness: Callable[[], None], method: str) -> None:
    """Nested holds join: the last one lets go."""
    with target.hold(method):
        with target.hold(method) as inner:
            pass
        before = target.steps()
        witness()
        assert target.steps() == before
    assert inner.broken is None
    target.goes_on()


@every_method
def test_first_leaves_first(target: Running, method: str) -> None:
    """The hold that stopped the target may be left before one that joined it."""
    first, second = target.hold(method), target.hold(method)
    first.__enter__()
    with second:
        first.__exit__(None, None, None)
        assert target.is_held()
    assert (first.broken, second.broken) == (None, None)
    target.goes_on()


def test_nested_of_another_method(target: Running) -> None:
    """A hold that joins another has the method of that, and the reason."""
    with target.hold("ptrace"), target.hold("sigstop") as inner:
        assert inner.method == "ptrace"
    assert inner.refused == {"sigstop": "joined an earlier hold, by ptrace"}


def test_broken_is_taken_anew(target: Running, witness: Callable[[], None]) -> None:
    """A hold that joins a broken one stops the target again; only that was broken."""
    with target.hold("sigstop") as outer:
        os.kill(target.pid, signal.SIGCONT)
        target.goes_on()
        with target.hold("sigstop") as inner:
            before = target.steps()
            witness()
            assert target.steps() == before
    assert outer.broken
    assert inner.broken is None
    target.goes_on()


def test_sigcont_is_reported(target: Running) -> None:
    """A SIGCONT from elsewhere ends a sigstop hold, and `broken` has it."""
    with target.hold("sigstop") as held:
        assert target.is_held()
        os.kill(target.pid, signal.SIGCONT)
        target.goes_on()
    assert held.broken == "a SIGCONT from elsewhere let it go"


@every_method
def test_threads_join(target: Running, method: str) -> None:
    """Holds by several threads join: the target is held in every block."""
    errors: list[BaseException | str] = []

    def work() -> None:
        try:
            for _ in range(30):
                with target.hold(method, 20) as held:
                    before = target.steps()
                    time.sleep(0)
                    if target.steps() != before or not target.is_held():
                        errors.append("a step")
                if held.broken:
                    errors.append(held.broken)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    target.goes_on()


@every_method
def test_busy(target: Running, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold that another keeps waiting too long: TimeoutError; the other goes on."""
    entered, go_on = threading.Event(), threading.Event()
    make_stop = MethodChoice.make_stop

    def slow(self: MethodChoice, deadline: object) -> object:
        entered.set()
        go_on.wait(20)
        return make_stop(self, deadline)  # type: ignore[arg-type]

    monkeypatch.setattr(MethodChoice, "make_stop", slow)
    held = target.hold(method, 20)
    thread = threading.Thread(target=held.__enter__)
    thread.start()
    entered.wait(20)
    with pytest.raises(TimeoutError, match="an earlier hold of it, to be joined,"):
        target.hold(method, 0.01).__enter__()
    go_on.set()
    thread.join()
    assert target.is_held()
    held.__exit__(None, None, None)
    target.goes_on()
