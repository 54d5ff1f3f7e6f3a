"""Calls end on boundaries of huge pages, on a scripted kernel."""

from __future__ import annotations

import pytest
from helpers.scripted_kernel import HUGE, Area, ScriptedKernel, advise, pages, splits
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import Advice, Ranges
from pmadvise._advise.profiles import profile_of

N_PAGES = 16
RATE = 512 << 20


def all_huge() -> ScriptedKernel:
    """Return a kernel whose target has huge pages alone."""
    return ScriptedKernel(
        [Area(0, N_PAGES * HUGE)],
        huge_pages=Ranges((i * HUGE, HUGE) for i in range(N_PAGES)),
    )


@pytest.mark.parametrize("max_stall", [1e-6, 0.001, 0.005, 0.01, 0.05, None])
@pytest.mark.parametrize("advice", [Advice.COLD, Advice.PAGEOUT])
def test_whole_huge_pages(advice: Advice, max_stall: float | None) -> None:
    """A huge page that lies whole in a range is never split, however short a call."""
    kernel = all_huge()
    kernel.seconds = HUGE / RATE
    report = advise(kernel, [(0, N_PAGES * HUGE)], advice, max_stall=max_stall)
    assert (kernel.split_pages(), report.advised) == ([], N_PAGES * HUGE)


@pytest.mark.parametrize("advice", [Advice.COLD, Advice.PAGEOUT])
def test_ranges_that_begin_and_end_inside(advice: Advice) -> None:
    """Only the huge pages that the ranges themselves cut are split."""
    kernel = all_huge()
    kernel.seconds = HUGE / RATE
    asked = [(pages(3), 5 * HUGE), (8 * HUGE + pages(1), 3 * HUGE)]
    advise(kernel, asked, advice, max_stall=0.01)
    assert kernel.split_pages() == [0, 5 * HUGE, 8 * HUGE, 11 * HUGE]


def test_small_pages_between_huge_ones() -> None:
    """Calls end in small pages where these are, and in no huge page."""
    kernel = ScriptedKernel(
        [Area(0, N_PAGES * HUGE)],
        huge_pages=Ranges((i * HUGE, HUGE) for i in range(0, N_PAGES, 2)),
        seconds=0.001,
    )
    report = advise(kernel, [(0, N_PAGES * HUGE)], Advice.PAGEOUT, max_stall=0.005)
    assert (kernel.split_pages(), report.advised) == ([], N_PAGES * HUGE)


@pytest.mark.parametrize(
    ("asked", "calls"),
    [
        ([(HUGE - pages(64), 2 * HUGE)], [[(HUGE - pages(64), pages(64))]]),
        ([(0, pages(4)), (HUGE, 2 * HUGE)], [[(0, pages(4))], [(HUGE, HUGE)]]),
        (
            [(0, pages(4)), (pages(8), pages(4)), (HUGE, 2 * HUGE)],
            [[(0, pages(4)), (pages(8), pages(4))], [(HUGE, HUGE)]],
        ),
    ],
    ids=["the range goes on in it", "the next range begins in it", "the third does"],
)
def test_a_call_that_would_end_inside(
    asked: list[tuple[int, int]], calls: list[list[tuple[int, int]]]
) -> None:
    """A call that has more ends in front of the huge page, and is not made longer."""
    kernel = all_huge()
    kernel.seconds = 1e-6
    # an eighth of 20 ms at the first rate: more than 1 MiB, less than a huge page
    report = advise(kernel, asked, Advice.PAGEOUT, max_stall=0.020)
    assert kernel.calls[: len(calls)] == calls
    assert report.advised == sum(length for _, length in asked)


@given(
    huge=st.sets(st.integers(0, N_PAGES - 1)),
    ranges=st.lists(
        st.tuples(
            st.integers(0, N_PAGES * 512 - 1), st.integers(1, 3 * 512).map(pages)
        ),
        max_size=5,
    ),
    max_stall=st.sampled_from([1e-6, 0.001, 0.01, 0.05, None]),
    seconds=st.sampled_from([1e-6, 0.001, 0.1]),
)
def test_no_more_than_the_ranges_split(
    huge: set[int],
    ranges: list[tuple[int, int]],
    max_stall: float | None,
    seconds: float,
) -> None:
    """Of any ranges, each huge page that lies whole in one is advised whole."""
    kernel = ScriptedKernel(
        [Area(0, 2 * N_PAGES * HUGE)],
        huge_pages=Ranges((i * HUGE, HUGE) for i in sorted(huge)),
        seconds=seconds,
    )
    asked = [(pages(start), length) for start, length in ranges]
    report = advise(kernel, asked, Advice.PAGEOUT, max_stall=max_stall)
    cut = {page[0] for page in kernel.huge_pages if splits(asked, page)}
    assert set(kernel.split_pages()) == cut
    assert report.advised == sum(length for _, length in asked)


@pytest.mark.parametrize(
    ("advice", "length", "calls"),
    [
        (Advice.WILLNEED, 256 << 20, 2),
        (Advice.COLLAPSE, 1023 * HUGE, 1),
        (Advice.COLLAPSE, 1024 * HUGE, 2),
    ],
)
def test_elements_of_one_range_fill_a_vector(
    advice: Advice, length: int, calls: int
) -> None:
    """A range whose elements are short takes a call for 1,024 of them, not one each."""
    if profile_of(advice).max_element() not in (128 << 10, HUGE):
        pytest.skip("kernel: it has pages of another size")
    kernel = ScriptedKernel([Area(0, length)])
    report = advise(kernel, [(0, length)], advice, max_stall=None)
    assert (report.calls, report.advised) == (calls, length)
