"""The pauses between calls that follow each other, made by the real kernel."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.targets import GIB, MIB, PAGE, Target, exec_shell

from pmadvise import Advice, Process, Ranges
from pmadvise._advise.kernel import Kernel
from pmadvise._advise.limits import Limits
from pmadvise._advise.profiles import profile_of
from pmadvise._advise.run import Run
from pmadvise._handle.identity import Identity
from pmadvise._handle.mm import open_mm
from pmadvise._native import mm as native_mm
from pmadvise._native.mm import Burst

pytestmark = pytest.mark.needs_root

LONG = 900_000_000
"""Nanoseconds of a pause in which something happens."""


@pytest.fixture
def kernel(target: Target) -> Iterator[Kernel]:
    """The kernel, asked about the target."""
    identity = Identity.open(target.pid)
    kernel = Kernel(open_mm(identity), profile_of(Advice.COLD), lambda: None)
    kernel.open()
    yield kernel
    kernel.close()
    identity.close()


def two_calls(pause: int) -> Burst:
    """Return that a call is followed by another, after a pause."""
    burst = Burst()
    burst.set(1, 0, 10**18, 10**18, 0, pause)
    return burst


def test_a_call_behind_a_pause(target: Target, kernel: Kernel) -> None:
    """A pause that is due is made before the next call, which begins anew."""
    address = target.filled(2 * PAGE)
    vector = Ranges([(address, PAGE)])._array
    begin = time.monotonic()
    end, result, seconds = kernel.advise(vector, two_calls(20_000_000))
    awake, tally = time.monotonic() - begin - 0.02, kernel.tally
    assert (end, result, vector.get(0)[0]) == (None, PAGE, address + PAGE)
    assert (tally.calls, tally.advised) == (2, 2 * PAGE)
    assert tally.locked == seconds <= tally.longest <= tally.spent <= awake


def test_no_pause_is_none_of_ours(target: Target, kernel: Kernel) -> None:
    """Where the caller is to make the pause that is due, no call follows."""
    vector = Ranges([(target.filled(2 * PAGE), PAGE)])._array
    kernel.advise(vector, two_calls(0))
    assert (kernel.tally.calls, kernel.tally.locked > 0) == (1, True)


@pytest.mark.timeout(method="thread")  # the signal is the test's own
def test_a_signal_in_a_pause(target: Target, kernel: Kernel) -> None:
    """A pause ends at a signal, whose handler runs; the turn is still to be given."""
    vector = Ranges([(target.filled(2 * PAGE), PAGE)])._array
    ran: list[float] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ran.append(time.monotonic()))
    begin = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert kernel.advise(vector, two_calls(LONG))[:2] == (None, PAGE)
        seconds = time.monotonic() - begin
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(ran) == 1
    assert seconds < 1e-9 * LONG
    assert (kernel.tally.calls, kernel.tally.locked > 0) == (1, True)


def test_an_exec_in_a_pause(target: Target, kernel: Kernel) -> None:
    """No call is made behind a pause in which the target calls execve(2)."""
    vector = Ranges([(target.filled(2 * PAGE), PAGE)])._array
    soon = threading.Timer(0.02, exec_shell, [target])
    soon.start()
    end, _, _ = kernel.advise(vector, two_calls(LONG))
    soon.join()
    assert (end, kernel.tally.calls, kernel.tally.advised) == ("exec", 1, PAGE)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The nanoseconds of the pause that each crossing may make."""
    found = []
    real = native_mm.mm_advise

    def mm_advise(*arguments: Any) -> int:
        *_, burst, _ = arguments
        found.append(burst.cdata.pause)
        return real(*arguments)

    monkeypatch.setattr(native_mm, "mm_advise", mm_advise)
    return found


def test_steps_never_sleep(target: Target, process: Process, pauses: list[int]) -> None:
    """Whoever takes the steps is given the pauses, and none is made."""
    for max_stall in (1e-6, 0.01):
        ranges = Ranges([(target.reserved(64 * MIB), 64 * MIB)])
        run = Run(process._mm_now(), Advice.PAGEOUT, Limits(max_stall=max_stall))
        yielded = list(run.steps(ranges))
        assert max_stall > 1e-6 or 20e-6 in yielded
    assert set(pauses) == {0}


def test_run_sleeps_where_it_is(
    target: Target, process: Process, pauses: list[int]
) -> None:
    """Calls of advise() follow each other over the pauses of 20 us."""
    address = target.reserved(GIB)
    assert process.pageout([(address, GIB)], max_stall=0.01).advised == GIB
    assert 20_000 in pauses
