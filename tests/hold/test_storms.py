"""Processes whose threads are many, are born and die, or call execve(2)."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import pytest
from helpers.hold_programs import CLONES, CROWD, DEAD_LEADER, EXECS
from helpers.hold_targets import Running
from helpers.waiting import until

from pmadvise.hold import stop


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_clone_storm(start: Callable[..., Running], method: str) -> None:
    """No thread runs while held, of a process whose threads are born and die."""
    target = start(CLONES)
    for _ in range(50):
        with target.hold(method, 10) as held:
            letters = set(target.states())
            threads = set(target.threads())
            assert letters == {"t" if method == "ptrace" else "T"}
            assert set(target.threads()) == threads
        assert held.broken is None


def differs(target: Running, threads: object) -> bool:
    return target.threads() != threads


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_exec_storm(start: Callable[..., Running], method: str) -> None:
    """A process whose threads call execve(2) over and over is held, and never hangs."""
    target = start(EXECS)
    for _ in range(60):
        with target.hold(method, 20) as held:
            letters = set(target.states())
            assert letters == {"t" if method == "ptrace" else "T"}
        assert held.broken is None
        command = target.threads()
        until(functools.partial(differs, target, command), "it execs again")


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_dead_leader(
    start: Callable[..., Running], witness: Callable[[], None], method: str
) -> None:
    """A process whose leader has exited is held by the threads that it has."""
    target = start(DEAD_LEADER)
    until(lambda: "Z" in target.states())
    with target.hold(method):
        before = target.steps()
        witness()
        assert target.steps() == before
    target.goes_on()


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
def test_crowd(start: Callable[..., Running], method: str) -> None:
    """A process of a thousand threads is held, every one of them."""
    target = start(CROWD, "1000")
    with target.hold(method, 30) as held:
        assert set(target.states()) <= set("tT")
    assert held.broken is None
    until(lambda: set(target.states()) == {"S"}, "it waits again")


def test_pauses_end() -> None:
    """A target is checked until the deadline, and at least once."""
    assert len(list(stop.pauses(time.monotonic() - 1))) == 1
