"""Reserved but empty addresses cost no default selection calls or reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.targets import GIB, MIB, Target

from pmadvise import Process, Report
from pmadvise._advise.limits import Clock

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.usefixtures("ioctls_of_a_release"),
]

RESERVED = 1448 * GIB
DATA = 64 * MIB
MAX_CALLS = 2 * DATA // (512 << 10)
"""Twice the calls that the data takes, 512 KiB each."""
MAX_STEPS = 2000
"""Steps of reading pagemap or smaps: all of the reservation would take 20,000."""


@pytest.fixture
def reserving(target: Target) -> Target:
    """A target that reserves as V8 does, on both sides of its data."""
    target.run(f"map({RESERVED // 2}, prot=NONE, flags=PRIVATE|ANONYMOUS|NORESERVE)")
    target.filled(DATA)
    target.reserved(RESERVED // 2)
    return target


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often the clock is looked at: between the steps of reading too."""
    counter = [0]
    check = Clock.check

    def counted(self: Clock) -> None:
        counter[0] += 1
        check(self)

    monkeypatch.setattr(Clock, "check", counted)
    return counter


@pytest.mark.parametrize("default", [Process.cold, Process.collapse])
def test_bounded(
    reserving: Target,
    process: Process,
    steps: list[int],
    default: Callable[[Process], Report],
) -> None:
    """The calls are those of the data alone, and so is the reading."""
    report = default(process)
    assert (report.ended, report.not_tried) == ("complete", 0)
    assert DATA // 2 <= report.requested <= 2 * DATA
    assert (report.calls <= MAX_CALLS, steps[0] <= MAX_STEPS) == (True, True)


@pytest.mark.needs_swap
def test_there_and_back(reserving: Target, process: Process, steps: list[int]) -> None:
    """The same when the data goes to swap and back."""
    out, back = process.pageout(), process.willneed()
    assert (out.ended, back.ended) == ("complete", "complete")
    assert DATA - MIB <= back.requested <= out.requested <= 2 * DATA
    assert max(out.calls, back.calls) <= MAX_CALLS
    assert steps[0] <= 2 * MAX_STEPS


def test_nothing_in_swap(reserving: Target, process: Process, steps: list[int]) -> None:
    """Of a reservation with nothing in swap willneed() asks for nothing."""
    report = process.willneed()
    assert (report.requested, report.calls, report.ended) == (0, 0, "complete")
    assert steps[0] <= MAX_STEPS


def test_residency(reserving: Target, process: Process) -> None:
    """The pages of the data are found among the reservation."""
    assert DATA <= process.resident().total <= 2 * DATA
