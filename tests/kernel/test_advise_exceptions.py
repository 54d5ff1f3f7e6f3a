"""Whatever leaves advise() as an exception has the report, the last call included."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from helpers.targets import GIB, MIB, PAGE, Target

from pmadvise import Advice, Process, Ranges, Report
from pmadvise._advise import kernel as advised
from pmadvise._native.mm import Tally

pytestmark = pytest.mark.needs_root


class Interrupted(BaseException):
    """Raised by a signal handler, or at a line."""


def report_of(error: BaseException) -> Report:
    """Return the report that an exception carries."""
    report: Report = error.report  # type: ignore[attr-defined]
    return report


class Interruptor:
    """Raises at the n-th line that pmadvise runs behind the first system call."""

    def __init__(self, lines: int) -> None:
        self._left = lines
        self.raised = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Trace functions of the package."""
        if self.raised or "/_advise/" not in frame.f_code.co_filename:
            return None
        if event == "line" and tallies and tallies[-1].calls:
            self._left -= 1
            if self._left < 0:
                self.raised = True
                raise Interrupted
        return self


tallies: list[Tally] = []


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the tally of the advise() that runs."""

    def new_tally() -> Tally:
        tallies.append(Tally())
        return tallies[-1]

    tallies.clear()
    monkeypatch.setattr(advised, "Tally", new_tally)
    yield
    tallies.clear()


def interrupted_at(lines: int, advise: Callable[[], Report]) -> Report | None:
    """Return the report of an advise() that is interrupted; None if it was not."""
    tallies.clear()
    interruptor = Interruptor(lines)
    before = sys.gettrace()
    sys.settrace(interruptor)
    try:
        advise()
    except Interrupted as error:
        sys.settrace(before)
        return report_of(error)
    finally:
        sys.settrace(before)
    return None


@pytest.mark.usefixtures("tally")
@pytest.mark.parametrize("measure", [False, True])
def test_at_every_line_behind_the_call(
    target: Target, process: Process, measure: bool
) -> None:
    """Wherever an exception comes behind a call, the report has the call."""
    address = target.filled(64 * PAGE)
    lines = 0
    while report := interrupted_at(
        lines, lambda: process.pageout([(address, 64 * PAGE)], measure=measure)
    ):
        assert (report.calls, report.advised) == (1, 64 * PAGE), f"line {lines}"
        assert (report.requested, report.not_tried) == (64 * PAGE, 0)
        lines += 1
    assert lines > 20


@pytest.mark.usefixtures("no_gc")
@pytest.mark.timeout(method="thread")  # the signal is the test's own
def test_of_a_signal_handler(target: Target, process: Process) -> None:
    """A handler that raises while the kernel works: the report has that call."""
    address = target.filled(256 * MIB)

    def handler(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    asked = Ranges([(address, 256 * MIB)] * 10_000)

    def interrupted(delay: float) -> Report | None:
        signal.setitimer(signal.ITIMER_REAL, delay)
        with pytest.raises(Interrupted) as caught:
            process.cold(asked, max_stall=None)
        return getattr(caught.value, "report", None)  # None before work began

    before = signal.signal(signal.SIGALRM, handler)
    try:
        reports = map(interrupted, (0.002, 0.01, 0.05, 0.25, 1, 5))  # a busy machine
        report = next(one for one in reports if one is not None and one.calls)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert report.advised > 0
    assert report.advised + report.not_tried == report.requested


def test_of_on_progress(target: Target, process: Process) -> None:
    """An error of on_progress carries the report."""
    address = target.reserved(4 * GIB)

    def on_progress(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        process.cold([(address, 4 * GIB)], max_stall=None, on_progress=on_progress)
    report = report_of(caught.value)
    assert (report.calls, report.ended) == (1, "cancelled")
    assert report.advised + report.not_tried == 4 * GIB


def test_of_cancel(target: Target, process: Process) -> None:
    """An error of is_set() carries the report."""

    class Broken(threading.Event):
        def is_set(self) -> bool:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        process.cold([(target.filled(PAGE), PAGE)], cancel=Broken())
    report = report_of(caught.value)
    assert (report.calls, report.requested, report.not_tried) == (0, PAGE, PAGE)


def test_a_frozen_exception(target: Target, process: Process) -> None:
    """An exception that takes no attributes by its own __setattr__ has the report."""

    class Frozen(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    def fail(done: int, total: int) -> None:
        raise Frozen

    ranges = [(target.filled(PAGE), PAGE)]
    with pytest.raises(Frozen) as caught:
        process.advise(ranges, Advice.COLD, on_progress=fail)
    assert report_of(caught.value).advised == PAGE
