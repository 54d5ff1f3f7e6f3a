"""Calls that follow each other in one crossing, on a scripted kernel."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from helpers.scripted_kernel import Area, ScriptedKernel, advise, engine_of
from helpers.targets import MIB

from pmadvise import Advice
from pmadvise._handle.mm import MmEnd
from pmadvise._native.mm import Burst
from pmadvise._native.ranges import RangeArray
from pmadvise.report import Ended

PAUSE = 20e-6
SHORT: dict[str, Any] = {"advice": Advice.PAGEOUT, "max_stall": 0.01}
"""Calls of 512 KiB, and a pause each 2.5 ms."""
ALL = [(0, 64 * MIB)]


class Counting(ScriptedKernel):
    """A kernel that counts how often it is asked; a call takes 0.4 ms."""

    def __init__(self, *areas: Area) -> None:
        super().__init__(list(areas), seconds=4e-4)
        self.crossings = 0

    def advise(
        self, vector: RangeArray, burst: Burst
    ) -> tuple[MmEnd | None, int, float]:
        """Count it."""
        self.crossings += 1
        return super().advise(vector, burst)


def steps_of(
    kernel: ScriptedKernel, *, sleeps: bool, **limits: Any
) -> tuple[list[float], Ended]:
    """Run an Engine for SHORT to its end; return the pauses that it yields."""
    steps = engine_of(kernel, ALL, **SHORT, **limits).steps(sleeps=sleeps)
    yielded = []
    while True:
        try:
            yielded.append(next(steps))
        except StopIteration as stop:
            return [pause for pause in yielded if pause], stop.value


def test_calls_follow_up_to_the_pause() -> None:
    """Seven calls of 0.4 ms are one crossing, and no byte is told twice or left out."""
    kernel = Counting(Area(0, 64 * MIB))
    report = advise(kernel, ALL, **SHORT)
    assert (report.advised, report.calls, kernel.crossings) == (64 * MIB, 128, 19)
    asked = [pair for vector in kernel.calls for pair in vector]
    assert asked == [(at, MIB // 2) for at in range(0, 64 * MIB, MIB // 2)]


@pytest.mark.parametrize(
    "limit",
    [{"on_progress": lambda done, total: None}, {"budget": 64 * MIB}, {"timeout": 0.0}],
)
def test_calls_that_are_looked_at_one_by_one(limit: dict[str, Any]) -> None:
    """With on_progress, a budget, or no time left, none follows."""
    kernel = Counting(Area(0, 64 * MIB))
    report = advise(kernel, ALL, **SHORT, **limit)
    assert kernel.crossings == report.calls


@pytest.mark.parametrize("n_calls", [1, 2, 5, 7, 8])
def test_a_refusal_among_them(n_calls: int) -> None:
    """What is refused after some calls is skipped, and nothing else is."""
    kernel = Counting(Area(0, 64 * MIB))

    def refuse() -> None:
        if len(kernel.calls) == n_calls:
            whole = n_calls * MIB // 2
            kernel.areas = [Area(0, whole), Area(whole, 64 * MIB, errno.EINVAL)]

    kernel.after_call = refuse
    report = advise(kernel, ALL, **SHORT)
    done = n_calls * MIB // 2
    assert report.advised == done
    assert [(skip.address, skip.length, skip.errno) for skip in report.skipped] == [
        (done, 64 * MIB - done, errno.EINVAL)
    ]


@pytest.mark.parametrize("end", ["exec", "exited", "refused"])
def test_the_end_among_them(end: MmEnd) -> None:
    """Each call looks before it: once the target is another, none follows."""
    kernel = Counting(Area(0, 64 * MIB))
    kernel.ends = iter([None, None, None, None, end, end, end])
    report = advise(kernel, ALL, **SHORT)
    assert (report.ended, report.advised) == (end, len(kernel.calls) * MIB // 2)
    assert (len(kernel.calls), kernel.crossings) == (4, 1)


def test_a_shorter_call_among_them() -> None:
    """A call that is slow is the last of its length."""
    kernel = Counting(Area(0, 64 * MIB))

    def slow_down() -> None:
        kernel.seconds = 0.1 if len(kernel.calls) == 2 else 4e-4

    kernel.before_call = slow_down
    advise(kernel, [(0, 4 * MIB)], **SHORT)
    lengths = [length for vector in kernel.calls for _, length in vector]
    assert lengths[:3] == [MIB // 2] * 3
    assert lengths[3] < MIB // 2


def test_every_pause_is_yielded() -> None:
    """Whoever takes the steps gets each pause, and nothing sleeps in between."""
    kernel = Counting(Area(0, 64 * MIB))
    yielded, _ = steps_of(kernel, sleeps=False)
    assert (yielded, kernel.pauses) == ([PAUSE] * 18, [])


@pytest.mark.parametrize("seconds", [1e-4, 4e-4, 7e-4, 2e-3])
def test_the_same_pauses_wherever_they_are_made(seconds: float) -> None:
    """Behind the same calls the target has the same turns, yielded or slept."""
    turns = []
    for sleeps in (False, True):
        kernel = Counting(Area(0, 64 * MIB))
        kernel.seconds = seconds
        yielded, _ = steps_of(kernel, sleeps=sleeps)
        turns.append((len(kernel.calls), yielded + kernel.pauses))
    assert turns[0] == turns[1]


def test_a_pause_among_them() -> None:
    """Calls go on behind a pause, for 10 ms in all."""
    kernel = Counting(Area(0, 64 * MIB))
    yielded, ended = steps_of(kernel, sleeps=True)
    assert (ended, kernel.crossings) == ("complete", 6)
    asked = [pair for vector in kernel.calls for pair in vector]
    assert asked == [(at, MIB // 2) for at in range(0, 64 * MIB, MIB // 2)]
    assert (kernel.pauses, yielded) == ([PAUSE] * 18, [])


def test_what_is_left_of_a_turn_counts() -> None:
    """A crossing that ends between two pauses leaves the rest to the next."""
    kernel = Counting(Area(0, 64 * MIB))
    kernel.seconds = 7e-4
    locked: list[float] = []
    kernel.before_call = lambda: locked.append(kernel.tally.locked)
    steps_of(kernel, sleeps=True)
    assert max(locked) < 2.5e-3
    assert [round(1e4 * seconds) for seconds in locked[:9]] == [*(0, 7, 14, 21) * 2, 0]


def test_a_signal_in_a_pause() -> None:
    """A pause that is cut short ends the crossing, and is made anew by the caller."""
    kernel = Counting(Area(0, 64 * MIB))
    kernel.in_pause = lambda: True
    yielded, ended = steps_of(kernel, sleeps=True)
    assert (yielded, ended) == ([PAUSE] * 18, "complete")
    assert kernel.crossings == 19


def test_the_end_in_a_pause() -> None:
    """What the target becomes in a pause is seen before the call behind it."""
    kernel = Counting(Area(0, 64 * MIB))

    def end() -> None:
        kernel.ended = lambda: "exec"  # type: ignore[method-assign]

    kernel.in_pause = end
    _, ended = steps_of(kernel, sleeps=True)
    assert (ended, len(kernel.calls), len(kernel.pauses)) == ("exec", 7, 1)


def test_no_time_is_left_behind_a_pause() -> None:
    """What is left of a timeout bounds a crossing, the pauses in it too."""
    kernel = Counting(Area(0, 64 * MIB))
    clock = lambda: 1e-9 * kernel.now  # noqa: E731
    limits = {"timeout": 0.003, "monotonic": clock}
    _, ended = steps_of(kernel, sleeps=True, **limits)
    assert (ended, len(kernel.calls), len(kernel.pauses)) == ("timeout", 8, 1)


@pytest.mark.parametrize(
    "limit", [{"on_progress": lambda done, total: None}, {"budget": 64 * MIB}]
)
def test_calls_one_by_one_have_their_pauses_yielded(limit: dict[str, Any]) -> None:
    """Where no call follows, nothing is slept between calls."""
    kernel = Counting(Area(0, 64 * MIB))
    yielded, _ = steps_of(kernel, sleeps=True, **limit)
    assert (len(yielded), kernel.pauses) == (18, [])
