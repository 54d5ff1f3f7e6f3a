"""When an advise() ends early, on a scripted kernel; needs no kernel feature."""

from __future__ import annotations

import errno
import itertools
from typing import NoReturn

import pytest
from helpers.scripted_kernel import (
    HUGE,
    Area,
    ScriptedKernel,
    TickingClock,
    advise,
    engine_of,
    pages,
    report_of,
    run,
)
from helpers.targets import GIB

from pmadvise import PAGE_SIZE, Ranges
from pmadvise._advise.limits import CallerError
from pmadvise._handle.mm import MmEnd
from pmadvise._native.base import check
from pmadvise._native.mm import Burst
from pmadvise._native.ranges import RangeArray

N_HOLES = 600_000
HOLES = [(pages(2 * i), PAGE_SIZE) for i in range(N_HOLES)]


def raise_gone() -> NoReturn:
    """Raise ProcessLookupError as the package does: this is no signal handler."""
    check(-errno.ESRCH, "a question")
    raise AssertionError


class Flag:
    """A threading.Event for the engine, set by itself after some questions."""

    def __init__(self, questions: float = float("inf")) -> None:
        self.set = False
        self._left = questions

    def is_set(self) -> bool:
        """Return whether it is set by now."""
        self._left -= 1
        return self.set or self._left < 0


def test_cancel() -> None:
    """Cancelled in the third call, the fourth is not made."""
    flag = Flag()
    kernel = ScriptedKernel([Area(0, 8 * GIB)])

    def before_call() -> None:
        flag.set = len(kernel.calls) == 2

    kernel.before_call = before_call
    report = advise(kernel, [(0, 8 * GIB)], cancel=flag, max_stall=None)
    assert (report.ended, report.calls) == ("cancelled", 3)
    assert report.advised + report.not_tried == 8 * GIB


def test_timeout() -> None:
    """The time is looked at between calls."""
    kernel = ScriptedKernel([Area(0, 8 * GIB)])
    clock = TickingClock(1)
    report = advise(kernel, [(0, 8 * GIB)], timeout=5, max_stall=None, monotonic=clock)
    assert report.ended == "timeout"
    assert report.advised + report.not_tried == 8 * GIB


@pytest.mark.parametrize(("max_stall", "pauses"), [(0.01, True), (None, False)])
def test_a_pause_after_each_call(max_stall: float | None, pauses: bool) -> None:
    """With a max_stall the target has its turn after each slow call."""
    kernel = ScriptedKernel([Area(0, GIB)], seconds=0.02)
    engine = engine_of(kernel, [(GIB - pages(50), pages(50))], max_stall=max_stall)
    slept = list(engine.steps())
    after_calls, at_the_end = slept[: len(kernel.calls)], slept[len(kernel.calls) :]
    assert [pause > 0 for pause in after_calls] == [pauses] * len(kernel.calls)
    assert at_the_end == [0.0]


def test_no_pause_after_a_refusal() -> None:
    """A call that did nothing took nothing from the target."""
    area = Area(0, pages(1), errno=errno.EINVAL)
    engine = engine_of(ScriptedKernel([area], seconds=0.02), [(0, pages(1))])
    assert set(engine.steps()) == {0.0}


def test_no_time_at_all() -> None:
    """With a timeout of 0 nothing is tried, and the report says so."""
    kernel = ScriptedKernel([Area(0, pages(10))])
    report = advise(kernel, [(0, pages(10))], timeout=0)
    assert (report.ended, report.calls, report.not_tried) == ("timeout", 0, pages(10))


def test_no_time_for_nothing() -> None:
    """With nothing asked, a timeout of 0 is no reason to end early."""
    assert advise(ScriptedKernel(), [], timeout=0).ended == "complete"


@pytest.mark.parametrize("end", ["exec", "exited", "refused"])
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_end(end: MmEnd, calls: int) -> None:
    """Once the target is another, or can't be looked at, no call is made."""
    kernel = ScriptedKernel([Area(0, 8 * GIB)])
    kernel.ends = itertools.chain([None] * calls, itertools.repeat(end))
    report = advise(kernel, [(0, 8 * GIB)], max_stall=None)
    assert (report.ended, report.calls) == (end, calls)
    assert report.advised + report.not_tried == 8 * GIB


@pytest.mark.parametrize("end", ["exec", "exited", "refused"])
def test_end_known_by_the_call_alone(end: MmEnd) -> None:
    """What the call finds just before the kernel is asked ends the work."""

    class Once(ScriptedKernel):
        def advise(
            self, vector: RangeArray, burst: Burst
        ) -> tuple[MmEnd | None, int, float]:
            del vector, burst
            return end, 0, 0.0

    report = advise(Once([Area(0, pages(9))]), [(0, pages(9))])
    assert (report.ended, report.calls, report.not_tried) == (end, 0, pages(9))


def test_end_at_the_end() -> None:
    """An exec during the last call is reported."""
    kernel = ScriptedKernel([Area(0, PAGE_SIZE)])
    kernel.ends = iter([None, "exec"])
    report = advise(kernel, [(0, PAGE_SIZE)])
    assert (report.ended, report.advised) == ("exec", PAGE_SIZE)


@pytest.mark.parametrize("end", ["exec", "exited"])
def test_end_while_a_budget_is_counted(end: MmEnd) -> None:
    """An exec while the pages for a budget are looked at ends the work."""

    class Gone(ScriptedKernel):
        def resident(self, ranges: Ranges) -> Ranges:
            self.ends = itertools.repeat(end)
            raise_gone()

    kernel = Gone([Area(0, pages(10))])
    report = advise(kernel, [(0, pages(10))], budget=pages(5))
    assert (report.ended, report.calls, report.not_tried) == (end, 0, pages(10))


@pytest.mark.parametrize("end", ["exec", "exited"])
def test_end_while_a_huge_page_is_looked_for(end: MmEnd) -> None:
    """An exec while the pages at the end of a call are looked at ends the work."""

    class Gone(ScriptedKernel):
        def next_huge_page(self, start: int) -> int:
            del start
            self.ends = itertools.repeat(end)
            raise_gone()

    kernel = Gone([Area(0, 8 * HUGE)])
    report = advise(kernel, [(PAGE_SIZE, 6 * HUGE)], max_stall=1e-9)
    assert (report.ended, report.calls) == (end, 0)


def test_timeout_among_holes() -> None:
    """The time is looked at between holes too."""
    report = advise(ScriptedKernel(), HOLES, timeout=0.1, monotonic=TickingClock(1e-5))
    assert report.ended == "timeout"
    assert report.not_tried >= pages(N_HOLES - 10_000)


def test_cancel_among_holes() -> None:
    """Between holes the caller may cancel."""
    report = advise(ScriptedKernel(), HOLES, cancel=Flag(questions=1000))
    assert report.ended == "cancelled"
    assert report.not_tried >= pages(N_HOLES - 1000)


@pytest.mark.parametrize("end", ["exec", "exited", "refused"])
def test_end_among_holes(end: MmEnd) -> None:
    """The target is looked at again between holes, as time goes by."""
    kernel = ScriptedKernel(ends=itertools.repeat(end))
    report = advise(kernel, HOLES, monotonic=TickingClock(1e-4))
    assert report.ended == end
    assert report.not_tried >= pages(N_HOLES - 100)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_exception_of_on_progress(error: type[BaseException]) -> None:
    """Whatever on_progress raises goes through, and the account is true."""

    def on_progress(done: int, total: int) -> None:
        if done > 3 * GIB:
            raise error

    kernel = ScriptedKernel([Area(0, 8 * GIB)])
    engine = engine_of(kernel, [(0, 8 * GIB)], max_stall=None, on_progress=on_progress)
    with pytest.raises(CallerError) as caught:
        run(engine)
    assert type(caught.value.error) is error
    assert 3 * GIB < kernel.tally.advised == engine.account.done < 8 * GIB


def test_exception_behind_a_call() -> None:
    """An exception between a call and its return to the engine loses no byte of it."""
    kernel = ScriptedKernel([Area(0, 8 * GIB)])

    def interrupt() -> None:
        raise KeyboardInterrupt

    kernel.after_call = interrupt
    engine = engine_of(kernel, [(0, 8 * GIB)], max_stall=None)
    with pytest.raises(KeyboardInterrupt):
        run(engine)
    report = report_of(kernel, engine, "cancelled")
    asked = sum(length for _, length in kernel.calls[0])
    assert (report.calls, report.advised) == (1, asked)
    assert report.not_tried == 8 * GIB - asked


def test_progress() -> None:
    """Progress grows from call to call up to all of it."""
    kernel = ScriptedKernel([Area(0, 3 * GIB), Area(4 * GIB, 6 * GIB, 22)])
    seen: list[tuple[int, int]] = []
    advise(
        kernel,
        [(0, 6 * GIB)],
        max_stall=None,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(set(seen))
    assert seen[-1] == (6 * GIB, 6 * GIB)


@pytest.mark.parametrize("question", ["vmas_of", "resident"])
def test_gone_while_it_is_asked(question: str) -> None:
    """A target that goes while its memory is looked at ends the work as such."""

    def gone(ranges: Ranges) -> NoReturn:
        kernel.ended = lambda: "exited"  # type: ignore[method-assign]
        raise_gone()

    kernel = ScriptedKernel([Area(0, pages(4))])
    setattr(kernel, question, gone)
    report = advise(kernel, [(0, pages(4))], budget=pages(4))
    assert (report.ended, report.calls) == ("exited", 0)


@pytest.mark.parametrize("question", ["vmas_of", "resident"])
def test_an_error_of_a_target_that_lives(question: str) -> None:
    """The same error of a target that has not gone is raised."""

    def fail(ranges: Ranges) -> NoReturn:
        raise_gone()

    kernel = ScriptedKernel([Area(0, pages(4))])
    setattr(kernel, question, fail)
    with pytest.raises(ProcessLookupError):
        advise(kernel, [(0, pages(4))], budget=pages(4))
