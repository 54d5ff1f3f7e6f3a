"""advise_each(): many processes, one budget, an outcome for each."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from helpers import proc
from helpers.targets import MIB, PAGE, Target

from pmadvise import Advice, Process, Report, advise_each, group
from pmadvise.memory import Swap

SIZE = 4 * MIB
COUNT = 4


@pytest.fixture
def targets() -> Iterator[list[Target]]:
    """Processes with SIZE bytes of memory each, at rest."""
    with ExitStack() as stack:
        started = [Target() for _ in range(COUNT)]
        for target in started:
            stack.callback(target.close)
            target.filled(SIZE)
        yield started


@pytest.fixture
def handles(targets: list[Target]) -> Iterator[list[Process]]:
    """A handle of each."""
    with ExitStack() as stack:
        yield [stack.enter_context(Process(target.pid)) for target in targets]


def report_of(outcome: Report | OSError) -> Report:
    """Return an outcome that is no error."""
    assert isinstance(outcome, Report), outcome
    return outcome


pytestmark = pytest.mark.needs_root


def test_each_has_its_report(handles: list[Process]) -> None:
    """Without limits each process is advised, in the order given."""
    results = advise_each(handles, Advice.COLD)
    assert [process for process, _ in results] == handles
    reports = [report_of(outcome) for _, outcome in results]
    assert [report.ended for report in reports] == ["complete"] * COUNT
    assert min(report.advised for report in reports) >= SIZE


def test_one_budget_for_all(handles: list[Process]) -> None:
    """The budget ends in the middle of a process; those behind it are not tried."""
    budget = handles[0].cold().advised + 2 * MIB
    reports = [
        report_of(outcome)
        for _, outcome in advise_each(handles, Advice.COLD, budget=budget)
    ]
    assert [report.ended for report in reports] == ["complete", *["budget"] * 3]
    advised = [report.advised for report in reports]
    assert advised[2:] == [0, 0]
    assert budget - PAGE * COUNT <= sum(advised) <= budget


def test_the_dead_stop_nobody(targets: list[Target], handles: list[Process]) -> None:
    """One that has gone has its error in its place, and the others are advised."""
    targets[1].kill()
    outcomes = [outcome for _, outcome in advise_each(handles, Advice.COLD)]
    assert [type(outcome) for outcome in outcomes] == [
        Report,
        ProcessLookupError,
        Report,
        Report,
    ]


def test_an_error_keeps_no_file_open(
    targets: list[Target], handles: list[Process]
) -> None:
    """The outcomes can be kept: none holds a descriptor."""
    targets[1].kill()
    before = len(os.listdir("/proc/self/fd"))
    results = advise_each(handles, Advice.COLD)
    assert (len(os.listdir("/proc/self/fd")), len(results)) == (before, COUNT)


@pytest.mark.parametrize("calls", [0, 1, 7])
def test_stop(handles: list[Process], calls: int) -> None:
    """A true stop() ends the work, within a process too."""
    asked = iter(range(1000))
    results = advise_each(
        handles, Advice.COLD, stop=lambda: next(asked) >= calls, max_stall=1e-9
    )
    reports = [report_of(outcome) for _, outcome in results]
    assert {report.ended for report in reports} == {"cancelled"}
    assert sum(report.calls for report in reports) <= calls


def test_cancel(handles: list[Process]) -> None:
    """An Event that is set ends the work for everybody."""
    cancel = threading.Event()
    cancel.set()
    reports = [
        report_of(outcome)
        for _, outcome in advise_each(handles, Advice.COLD, cancel=cancel)
    ]
    assert [(r.ended, r.calls) for r in reports] == [("cancelled", 0)] * COUNT


def test_timeout_is_for_all(handles: list[Process]) -> None:
    """The timeout covers all processes together."""
    reports = [
        report_of(outcome)
        for _, outcome in advise_each(handles, Advice.COLD, timeout=0)
    ]
    assert [(r.ended, r.calls) for r in reports] == [("timeout", 0)] * COUNT


@pytest.mark.needs_swap
def test_swap_floor(handles: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """PAGEOUT ends before free swap falls below the floor."""
    floor, room = 64 * MIB, 2 * SIZE

    def free() -> Swap:  # as if nobody else on the host used swap, or freed it
        used = sum(handle.status().swap for handle in handles)
        return Swap(floor + room, floor + room - used, True)

    monkeypatch.setattr(group, "swap", free)
    # counted, and never in swap: a page of glibc 2.41 in each process
    dropped = sum(proc.droppable(handle.pid) for handle in handles)
    results = advise_each(handles, Advice.PAGEOUT, swap_floor=floor)
    reports = [report_of(outcome) for _, outcome in results]
    assert reports[-1].ended == "budget"
    assert room - SIZE < sum(report.advised for report in reports) <= room + dropped
    assert free().free >= floor


def test_no_swap_left(handles: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """With less free swap than the floor nothing is paged out."""
    monkeypatch.setattr(group, "swap", lambda: Swap(100 * MIB, MIB, True))
    results = advise_each(handles, Advice.PAGEOUT, swap_floor=2 * MIB)
    reports = [report_of(outcome) for _, outcome in results]
    assert [(r.ended, r.calls) for r in reports] == [("budget", 0)] * COUNT


def test_the_floor_is_of_no_matter_to_cold(
    handles: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An advice that uses no swap is given whatever is free."""
    monkeypatch.setattr(group, "swap", lambda: Swap(100 * MIB, MIB, True))
    results = advise_each(handles, Advice.COLD, swap_floor=2 * MIB)
    assert {report_of(outcome).ended for _, outcome in results} == {"complete"}


def test_a_callback_that_raises(handles: list[Process]) -> None:
    """The error has the results so far, and the Report of the process it struck."""

    def fail(done: int, total: int) -> None:
        if done == total:
            count.append(done)
        if len(count) == 2:
            raise KeyError("ours")

    count: list[int] = []
    with pytest.raises(KeyError, match="ours") as caught:
        advise_each(handles, Advice.COLD, on_progress=fail)
    assert len(caught.value.reports) == 1  # type: ignore[attr-defined]
    assert caught.value.report.advised >= SIZE  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"advice": Advice.DONTNEED}, ValueError, "MADV_DONTNEED"),
        ({"advice": "cold"}, TypeError, "'cold'"),
        ({"budget": -1}, ValueError, "-1"),
        ({"budget": 1.5}, TypeError, "1.5"),
        ({"swap_floor": -4096}, ValueError, "-4096"),
        ({"swap_floor": 0.5}, TypeError, "swap_floor 0.5"),
        ({"stop": 1}, TypeError, "stop 1"),
        ({"max_stall": 0}, ValueError, "max_stall"),
    ],
)
def test_wrong_arguments(
    handles: list[Process],
    arguments: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    """A wrong argument is refused by its value before anybody is advised."""
    with pytest.raises(error, match=words):
        advise_each(handles, **{"advice": Advice.COLD, **arguments})  # type: ignore[arg-type]
