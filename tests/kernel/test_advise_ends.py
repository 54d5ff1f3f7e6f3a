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


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("max_stall", [None, 1e-9])
def test_exit_while_advising(
    target: Target, process: Process, max_stall: float | None, dry_run: bool
) -> None:
    """The end of the target ends it, whatever is opened for the first time then."""
    # The first call of a page ends where no huge page can be cut; the second does not.
    address = (target.reserved(6 * GIB) // GIB + 1) * GIB - PAGE
    report = process.cold(
        [(address, 4 * GIB)],
        max_stall=max_stall,
        on_progress=lambda done, total: target.kill(),
        dry_run=dry_run,
    )
    assert (report.ended, report.calls) == ("exited", 0 if dry_run else 1)
    assert 0 < report.advised < 4 * GIB


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
