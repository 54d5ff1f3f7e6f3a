"""advise_each(): its selection, its hold, and what its budget counts."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from helpers.targets import MIB, PAGE, Target
from helpers.waiting import wait_for_state

from pmadvise import Advice, Process, Ranges, Report, advise_each

pytestmark = pytest.mark.needs_root

SIZE = 4 * MIB


@pytest.fixture
def targets() -> Iterator[list[Target]]:
    """Two processes at rest."""
    with ExitStack() as stack:
        started = [Target() for _ in range(2)]
        for target in started:
            stack.callback(target.close)
        yield started


@pytest.fixture
def handles(targets: list[Target]) -> Iterator[list[Process]]:
    """A handle of each."""
    with ExitStack() as stack:
        yield [stack.enter_context(Process(target.pid)) for target in targets]


def reports_of(results: list[tuple[Process, Report | OSError]]) -> list[Report]:
    """Return outcomes that are no errors."""
    reports = [outcome for _, outcome in results if isinstance(outcome, Report)]
    assert len(reports) == len(results), results
    return reports


def test_a_budget_takes_off_what_it_counts(
    targets: list[Target], handles: list[Process]
) -> None:
    """A sparse process uses up the bytes that are in memory, whatever is advised."""
    sparse = targets[0].touched("range(0, 4096, 64)", 4096)
    start = targets[1].filled(SIZE)
    chosen = {
        handles[0]: Ranges([(sparse, 4096 * PAGE)]),
        handles[1]: Ranges([(start, SIZE)]),
    }
    results = advise_each(
        handles, Advice.COLD, budget=64 * PAGE + MIB, select=chosen.__getitem__
    )
    first, second = reports_of(results)
    assert (first.advised, first.ended) == (4096 * PAGE, "complete")
    assert (second.advised, second.ended) == (MIB, "budget")


def test_selected_ranges_are_asked_as_given(
    targets: list[Target], handles: list[Process]
) -> None:
    """The ranges of select() are asked in their order, resident or not."""
    start = targets[0].map(8 * PAGE)
    ranges = [(start + 4 * PAGE, PAGE), (start, 2 * PAGE), (start, PAGE)]
    [report] = reports_of(
        advise_each(handles[:1], Advice.COLD, select=lambda process: ranges)
    )
    assert (report.requested, report.advised) == (4 * PAGE, 4 * PAGE)


def test_none_is_the_default_selection(
    targets: list[Target], handles: list[Process]
) -> None:
    """A process for which select() returns None has its default selection."""
    targets[0].filled(SIZE)
    [report] = reports_of(
        advise_each(handles[:1], Advice.COLD, select=lambda process: None)
    )
    assert report.advised >= SIZE


def test_an_error_of_the_process_in_select(
    targets: list[Target], handles: list[Process]
) -> None:
    """A process that has gone when it is selected from has its error in its place."""
    targets[0].kill()
    results = advise_each(
        handles, Advice.COLD, select=lambda process: process.maps().select()
    )
    assert isinstance(results[0][1], ProcessLookupError)
    assert isinstance(results[1][1], Report)


def test_an_error_of_select_itself(handles: list[Process]) -> None:
    """Ranges that are none leave the call, with the results so far."""
    given = iter([[], [("x", 1)]])
    with pytest.raises(TypeError, match=re.escape("ranges[0]: address 'x'")) as caught:
        advise_each(handles, Advice.COLD, select=lambda process: next(given))  # type: ignore[arg-type,return-value]
    assert len(caught.value.reports) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["auto", "ptrace", "sigstop"])
def test_hold(targets: list[Target], handles: list[Process], method: str) -> None:
    """Each process is still while it is selected from, and runs on afterwards."""
    states = []

    def select(process: Process) -> Ranges:
        states.append(process.status().state)
        return process.selection(Advice.COLD)

    results = advise_each(handles, Advice.COLD, select=select, hold=method)
    assert {report.ended for report in reports_of(results)} == {"complete"}
    assert set(states) <= {"T", "t", "D", "S"} - {"S" if method != "auto" else ""}
    for target in targets:
        wait_for_state(target.pid, "S")
        assert target.run("1 + 1") == 2


def test_a_rehearsal_holds_nobody(handles: list[Process]) -> None:
    """With dry_run the processes go on."""
    states = []

    def select(process: Process) -> None:
        states.append(process.status().state)

    advise_each(handles, Advice.COLD, select=select, hold="sigstop", dry_run=True)
    assert len(states) == 2
    assert not set(states) & {"T", "t"}


def test_a_process_that_cannot_be_held(
    targets: list[Target], handles: list[Process]
) -> None:
    """Its error stands in its place, and the others are advised."""
    targets[0].kill()
    results = advise_each(handles, Advice.COLD, hold="ptrace")
    assert getattr(results[0][1], "errno", None) == errno.ESRCH
    assert isinstance(results[1][1], Report)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"select": 5}, TypeError, "select 5"),
        ({"hold": "glue"}, ValueError, "'glue'"),
        ({"hold": "glue", "dry_run": True}, ValueError, "'glue'"),
    ],
)
def test_wrong_arguments(
    handles: list[Process],
    arguments: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    """A wrong argument is refused by its value before anybody is advised."""
    with pytest.raises(error, match=words):
        advise_each(handles, Advice.COLD, **arguments)
