"""The limits cover all of advise(): selection and measuring included."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from helpers.scripted_kernel import TickingClock
from helpers.targets import GIB, MIB, PAGE, Target

from pmadvise import Process, Report
from pmadvise._advise import run
from pmadvise._advise.limits import Clock

pytestmark = pytest.mark.needs_root

DEFAULTS = [Process.cold, Process.pageout, Process.willneed, Process.collapse]
defaults = pytest.mark.parametrize("default", DEFAULTS)


class Flag:
    """A threading.Event that is set after some questions."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def is_set(self) -> bool:
        """Return whether it is set by now."""
        self.left -= 1
        return self.left < 0


@pytest.fixture
def scattered(target: Target) -> Target:
    """A target whose pages take many steps to read: every other one is touched."""
    address = target.run(f"reserve({2 * GIB})")
    target.run(f"madvise({address}, {2 * GIB}, 15)")
    target.run(f"touch({address}, range(0, 40000, 2))")
    return target


@defaults
@pytest.mark.parametrize(
    "limits", [{"timeout": 0}, {"cancel": Flag(0)}], ids=["timeout", "cancel"]
)
def test_nothing_at_all(
    process: Process, default: Callable[..., Report], limits: dict[str, object]
) -> None:
    """Without any time nothing is selected, and the report says so."""
    report = default(process, **limits)
    assert report.ended in ("timeout", "cancelled")
    assert (report.requested, report.calls) == (0, 0)


@pytest.mark.usefixtures("ioctls_of_a_release", "scattered")
@pytest.mark.parametrize("default", [Process.cold, Process.pageout])
def test_cancelled_while_selecting(
    process: Process, default: Callable[..., Report]
) -> None:
    """The caller may cancel while the selection is made."""
    report = default(process, cancel=Flag(3))
    assert (report.ended, report.requested, report.calls) == ("cancelled", 0, 0)


@pytest.mark.usefixtures("ioctls_of_a_release", "scattered")
@defaults
def test_timeout_while_selecting(
    process: Process, default: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout covers the selection, and so does `elapsed`."""
    ticking = functools.partial(Clock, monotonic=TickingClock(1))
    monkeypatch.setattr(run, "Clock", ticking)
    report = default(process, timeout=2.5)
    assert (report.ended, report.requested, report.calls) == ("timeout", 0, 0)
    assert report.elapsed >= 2.5


def test_cancelled_while_measuring(target: Target, process: Process) -> None:
    """A measuring that is cut short leaves `remaining` open, and loses nothing."""
    address = target.filled(MIB)
    flag = Flag(10**9)

    def cancel(done: int, total: int) -> None:
        flag.left = 0

    report = process.pageout(
        [(address, MIB)], cancel=flag, on_progress=cancel, measure=True, max_stall=None
    )
    assert (report.advised, report.ended) == (MIB, "complete")
    assert report.remaining is None
    assert report.after is not None


def test_elapsed_covers_measuring(
    target: Target, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`elapsed` counts the measuring at the end."""
    ticking = functools.partial(Clock, monotonic=TickingClock(1))
    monkeypatch.setattr(run, "Clock", ticking)
    address = target.filled(PAGE)
    plain = process.pageout([(address, PAGE)], timeout=1e6)
    measured = process.pageout([(address, PAGE)], timeout=1e6, measure=True)
    assert measured.elapsed > plain.elapsed
