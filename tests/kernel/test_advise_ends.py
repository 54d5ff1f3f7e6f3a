"""When Process.advise() ends early, on real targets."""

from __future__ import annotations

import signal
import threading

import pytest
from helpers.targets import GIB, MIB, PAGE, Target

from pmadvise import Process, Report

pytestmark = pytest.mark.needs_root


@pytest.mark.parametrize("explicit", [False, True])
def test_exec_between_snapshot_and_advice(
    target: Target, process: Process, explicit: bool
) -> None:
    """After an exec nothing is advised, until maps() is called again."""
    address = target.filled(MIB)
    space = process.maps()
    target.exec_again()
    report = process.cold([(address, MIB)] if explicit else None)
    assert (report.ended, report.advised, report.calls) == ("exec", 0, 0)
    assert report.requested == report.not_tried
    assert space.stale
    process.maps()
    assert process.cold().ended == "complete"


def test_exec_while_advising(target: Target, process: Process) -> None:
    """An exec between two calls ends it; the account is of what was before."""
    address = target.reserved(4 * GIB)
    execs = iter([target.exec_again])
    report = process.cold(
        [(address, 4 * GIB)],
        max_stall=None,
        on_progress=lambda done, total: next(execs, lambda: None)(),
    )
    assert (report.ended, report.calls) == ("exec", 1)
    assert report.advised + report.not_tried == 4 * GIB


def test_exit_while_advising(target: Target, process: Process) -> None:
    """The end of the target ends it."""
    address = target.reserved(4 * GIB)
    report = process.cold(
        [(address, 4 * GIB)],
        max_stall=None,
        on_progress=lambda done, total: target.kill(),
    )
    assert (report.ended, report.calls) == ("exited", 1)


@pytest.mark.parametrize("explicit", [False, True])
def test_gone_before_the_first_call(
    target: Target, process: Process, explicit: bool
) -> None:
    """A process that has gone is ProcessLookupError, now and later."""
    target.kill()
    for _ in range(2):
        with pytest.raises(ProcessLookupError):
            process.cold([(0, PAGE)] if explicit else None)


def test_keyboard_interrupt(target: Target, process: Process) -> None:
    """Ctrl-C goes through between calls, with the report so far."""
    address = target.reserved(4 * GIB)
    with pytest.raises(KeyboardInterrupt) as caught:
        process.cold(
            [(address, 4 * GIB)],
            max_stall=None,
            on_progress=lambda done, total: signal.raise_signal(signal.SIGINT),
        )
    report: Report = caught.value.report  # type: ignore[attr-defined]
    assert (report.calls, report.ended) == (1, "cancelled")
    assert report.advised + report.not_tried == 4 * GIB


def test_cancelled_by_another_thread(target: Target, process: Process) -> None:
    """An Event ends it between calls."""
    address = target.reserved(4 * GIB)
    cancel = threading.Event()
    report = process.cold(
        [(address, 4 * GIB)],
        cancel=cancel,
        on_progress=lambda done, total: threading.Thread(target=cancel.set).run(),
    )
    assert (report.ended, report.calls) == ("cancelled", 1)
