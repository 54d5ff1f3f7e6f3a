"""The budget of an advise(), on a scripted kernel; needs no kernel feature."""

from __future__ import annotations

import dataclasses
import errno

import pytest
from helpers.scripted_kernel import HUGE, Area, ScriptedKernel, advise, pages
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import PAGE_SIZE, Advice, Ranges
from pmadvise._advise.profiles import profile_of

EVERY_OTHER = Ranges((pages(2 * i), PAGE_SIZE) for i in range(500))


@pytest.mark.parametrize("budget", [1, 3, 64, 65, 1000])
@pytest.mark.parametrize("advice", [Advice.COLD, Advice.PAGEOUT, Advice.WILLNEED])
def test_budget(budget: int, advice: Advice) -> None:
    """The budget counts the bytes in memory (for WILLNEED the others), and holds."""
    kernel = ScriptedKernel([Area(0, pages(1000))], memory=EVERY_OTHER)
    report = advise(
        kernel,
        [(pages(10 * i), pages(10)) for i in range(100)],
        advice,
        budget=pages(budget),
    )
    advised = Ranges(kernel.advised)
    counted = advised & EVERY_OTHER
    if advice == Advice.WILLNEED:
        counted = advised - EVERY_OTHER
    assert counted.total == pages(min(budget, 500))
    assert report.ended == ("budget" if budget < 500 else "complete")
    assert report.advised + report.not_tried == pages(1000)


@given(
    memory=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 9)), max_size=9),
    ranges=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 40)), max_size=9),
    budget=st.integers(0, 120),
)
def test_a_budget_is_never_exceeded(
    memory: list[tuple[int, int]], ranges: list[tuple[int, int]], budget: int
) -> None:
    """Of any ranges no more bytes in memory are advised than the budget allows."""
    in_memory = Ranges((pages(a), pages(n)) for a, n in memory)
    kernel = ScriptedKernel([Area(0, pages(200))], memory=in_memory)
    asked = [(pages(a), pages(n)) for a, n in ranges]
    report = advise(kernel, asked, budget=pages(budget))
    counted = sum((Ranges([one]) & in_memory).total for one in kernel.advised)
    assert counted <= pages(budget)
    assert report.advised + report.not_tried == report.requested


def test_budget_does_not_count_skips() -> None:
    """A locked mapping is in memory, and takes nothing from the budget."""
    everything = Ranges([(0, pages(100))])
    kernel = ScriptedKernel(
        [Area(0, pages(50), errno.EINVAL), Area(pages(50), pages(100))],
        memory=everything,
    )
    report = advise(kernel, everything, budget=pages(20))
    assert (report.advised, report.ended) == (pages(20), "budget")


@pytest.mark.parametrize("budget", [1, HUGE - 1, HUGE, 2 * HUGE + 1, 8 * HUGE])
def test_budget_of_collapse(budget: int) -> None:
    """A budget never cuts inside a huge page, which COLLAPSE would do nothing with."""
    kernel = ScriptedKernel([Area(0, 4 * HUGE)], memory=Ranges([(0, 4 * HUGE)]))
    profile = dataclasses.replace(profile_of(Advice.COLLAPSE), max_element=lambda: HUGE)
    report = advise(
        kernel, [(0, 4 * HUGE)], Advice.COLLAPSE, profile=profile, budget=budget
    )
    assert report.advised == min(budget // HUGE, 4) * HUGE
    assert {length for vector in kernel.calls for _, length in vector} <= {HUGE}


def test_no_budget_at_all() -> None:
    """With a budget of 0 nothing is tried, and the report says so."""
    kernel = ScriptedKernel([Area(0, pages(10))])
    report = advise(kernel, [(0, pages(10))], budget=0)
    assert (report.ended, report.calls, report.not_tried) == ("budget", 0, pages(10))


def test_no_budget_for_nothing() -> None:
    """With nothing asked, a budget of 0 is no reason to end early."""
    assert advise(ScriptedKernel(), [], budget=0).ended == "complete"


@pytest.mark.parametrize(
    ("advice", "budget"),
    [(Advice.COLD, PAGE_SIZE - 1), (Advice.COLLAPSE, HUGE - PAGE_SIZE)],
)
def test_budget_of_less_than_can_be_done(advice: Advice, budget: int) -> None:
    """Where the budget allows no page, or no huge page, it is why nothing is done."""
    kernel = ScriptedKernel([Area(0, HUGE)], memory=Ranges([(0, HUGE)]))
    profile = profile_of(advice)
    if advice == Advice.COLLAPSE:
        profile = dataclasses.replace(profile, max_element=lambda: HUGE)
    report = advise(kernel, [(0, HUGE)], advice, budget=budget, profile=profile)
    assert (report.ended, report.calls, report.not_tried) == ("budget", 0, HUGE)
