"""The engine on a kernel that answers anything, while the target changes."""

from __future__ import annotations

import math

import pytest
from helpers.scripted_kernel import HUGE
from helpers.stepped_engine import (
    PAGES,
    SteppedEngine,
    at_page,
    some_answers,
    some_areas,
)
from helpers.stress_machines import find_failure, run_machine
from helpers.stress_rounds import Stress
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from pmadvise import PAGE_SIZE, Advice
from pmadvise._advise.engine import Engine
from pmadvise._advise.pacer import Pacer

LONG = 8 * HUGE // PAGE_SIZE

some_advice = st.sampled_from([Advice.COLD, Advice.WILLNEED, Advice.COLLAPSE])


class EngineMachine(SteppedEngine):
    """Small mappings, and any limits."""

    begin = initialize(
        asked=st.lists(st.tuples(at_page, st.integers(1, 900)), min_size=1, max_size=6),
        areas=some_areas,
        memory=some_areas,
        advice=some_advice,
        budget=st.none() | st.integers(0, PAGES * PAGE_SIZE),
        timeout=st.none() | st.floats(0, 1),
        max_stall=st.sampled_from([None, 1e-2, 1e-3, 1e-6]),
        many=st.booleans(),
        sleeps=st.booleans(),
        rate=st.just(math.inf),
        remembered=st.none() | some_areas,
        answers=some_answers,
    )(SteppedEngine.start)


class BurstMachine(SteppedEngine):
    """A long mapping, and calls that follow each other over pauses."""

    begin = initialize(
        asked=st.lists(st.tuples(at_page, st.just(LONG)), min_size=1, max_size=2),
        areas=st.just([(0, LONG + PAGES)]),
        memory=st.just([]),
        advice=some_advice,
        budget=st.none(),
        timeout=st.none() | st.floats(0.1, 1),
        max_stall=st.just(1e-2),
        many=st.just(True),
        sleeps=st.booleans(),
        rate=st.sampled_from([1 << 28, 1 << 29, 1 << 30]),
        remembered=st.none(),
        answers=st.just([]),
    )(SteppedEngine.start)


def test_engine_machine(stress: Stress) -> None:
    """Whatever the kernel answers: a true account in order, every limit obeyed."""
    run_machine(stress, EngineMachine, short=100, long=1000)


def test_burst_machine(stress: Stress) -> None:
    """The same where calls follow each other; the target has its turns."""
    run_machine(stress, BurstMachine, short=50, long=500)


def test_the_machine_finds_a_lost_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that forgets a refused range is found out."""
    monkeypatch.setattr(Engine, "_on_refusal", lambda *_: None)
    with pytest.raises(AssertionError):
        find_failure(EngineMachine)


def test_the_machine_finds_a_turn_that_is_not_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine that gives no turn at the end of a crossing is found out."""
    monkeypatch.setattr(Pacer, "pause", lambda *_: 0.0)
    with pytest.raises(AssertionError, match="turn"):
        find_failure(BurstMachine)
