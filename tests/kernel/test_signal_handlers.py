"""Exceptions of a signal handler while memory is advised."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import pytest
from helpers.targets import MIB, Target

from pmadvise import Advice, Process, Report, advise_each

pytestmark = pytest.mark.needs_root


@pytest.mark.timeout(method="thread")  # the signal is the test's own
@pytest.mark.usefixtures("no_gc")
def test_an_alarm_is_no_result(target: Target, process: Process) -> None:
    """A TimeoutError of an alarm is not taken for a process that was too slow."""
    target.filled(4 * MIB)

    def too_late(*_: object) -> None:
        raise TimeoutError("of the alarm")

    before = signal.signal(signal.SIGALRM, too_late)
    raised = 0
    try:
        for microseconds in range(50, 1500, 50):
            results: list[tuple[Process, Report | OSError]] = []
            try:
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                for _ in range(20):
                    results += advise_each([process], Advice.COLD)
            except TimeoutError:
                raised += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert {type(outcome) for _, outcome in results} <= {Report}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised


@pytest.mark.usefixtures("no_gc")
def test_an_error_of_a_handler_is_no_refusal(target: Target, process: Process) -> None:
    """A PermissionError of a handler ends the work as any exception of the caller."""
    target.filled(MIB)

    def refuses(*_: object) -> None:
        raise PermissionError("of the handler")

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_name == "mm_advise":
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, refuses)
    profile = sys.getprofile()
    sys.setprofile(interrupt)
    try:
        with pytest.raises(PermissionError, match="of the handler") as caught:
            process.cold()
    finally:
        sys.setprofile(profile)
        signal.signal(signal.SIGUSR1, before)
    assert vars(caught.value)["report"].ended == "cancelled"
