"""Targets that change their mappings at each look, on a scripted kernel."""

from __future__ import annotations

import bisect
import errno
from collections.abc import Callable

import pytest
from helpers.reports import skipped_by_errno
from helpers.scripted_kernel import Area, ScriptedKernel, advise, pages
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import IOV_MAX, PAGE_SIZE, Advice, Ranges

Split = Callable[[Area], int]
SPLITS: dict[str, Split] = {
    "off the front": lambda area: area.start + PAGE_SIZE,
    "off the back": lambda area: area.end - PAGE_SIZE,
    "in the middle": lambda area: (area.start + area.end) // 2 & -PAGE_SIZE,
}


def splitting(kernel: ScriptedKernel, split: Split) -> None:
    """Let the VMA that is looked at be two, each time, down to single pages."""

    def before_look(ranges: Ranges) -> None:
        start, length = ranges[0]
        (area,) = kernel.touched(start, start + 1)
        if length > PAGE_SIZE and area.end - area.start > PAGE_SIZE:
            at = split(Area(start, start + length))
            index = bisect.bisect_left(kernel.areas, area)
            parts = [Area(area.start, at, area.errno), Area(at, area.end, area.errno)]
            kernel.areas[index : index + 1] = parts

    kernel.before_look = before_look


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("advice", [Advice.COLD, Advice.WILLNEED])
def test_mappings_that_split(split: Split, advice: Advice) -> None:
    """Pages that can't be advised, split at each look: the exact account."""
    n = IOV_MAX + 200  # more than a vector
    kernel = ScriptedKernel([Area(0, pages(n), errno.EINVAL)])
    splitting(kernel, split)
    report = advise(kernel, [(0, pages(n))], advice, max_stall=None)
    assert (report.ended, report.advised, report.not_tried) == ("complete", 0, 0)
    assert skipped_by_errno(report) == {errno.EINVAL: Ranges([(0, pages(n))])}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_mappings_that_split_before_others(split: Split) -> None:
    """The ranges behind a mapping that splits are advised all the same."""
    n = IOV_MAX + 200
    kernel = ScriptedKernel(
        [Area(0, pages(n), errno.EINVAL), Area(pages(n), pages(2 * n))]
    )
    splitting(kernel, split)
    asked = [(0, pages(n)), (pages(n), pages(n)), (0, pages(1)), (pages(n), pages(1))]
    report = advise(kernel, asked, max_stall=None)
    assert (report.advised, report.not_tried) == (pages(n + 1), 0)
    assert skipped_by_errno(report) == {errno.EINVAL: Ranges([(0, pages(n))])}


@pytest.mark.parametrize("back", [False, True], ids=["from the front", "from the back"])
def test_mappings_that_go_away(back: bool) -> None:
    """A mapping that loses a page at each look, down to nothing: the exact account."""
    n = 2 * IOV_MAX + 200  # more than two vectors
    kernel = ScriptedKernel([Area(0, pages(n), errno.EINVAL)])

    def before_look(ranges: Ranges) -> None:
        kernel.areas = [
            Area(start, end - PAGE_SIZE, number)
            if back
            else Area(start + PAGE_SIZE, end, number)
            for start, end, number in kernel.areas
            if end - start > PAGE_SIZE
        ]

    kernel.before_look = before_look
    report = advise(kernel, [(0, pages(n))], max_stall=None)
    skipped = skipped_by_errno(report)
    assert (report.ended, report.advised, report.not_tried) == ("complete", 0, 0)
    assert sum(ranges.total for ranges in skipped.values()) == pages(n)


@given(
    looks=st.lists(
        st.lists(
            st.tuples(st.integers(0, 30), st.sampled_from([0, errno.EINVAL])),
            max_size=6,
        ),
        max_size=30,
    ),
    ranges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=6),
)
def test_any_mappings_at_each_look(
    looks: list[list[tuple[int, int]]], ranges: list[tuple[int, int]]
) -> None:
    """Whatever is mapped at each look, every byte is in the account once."""
    kernel = ScriptedKernel()
    script = iter(looks)

    def before_look(asked: Ranges) -> None:
        found = sorted(dict(next(script, [])).items())
        kernel.areas = [Area(pages(a), pages(a + 1), number) for a, number in found]

    kernel.before_look = before_look
    report = advise(kernel, [(pages(a), pages(n)) for a, n in ranges])
    assert (report.ended, report.not_tried) == ("complete", 0)
    assert report.advised == sum(length for _, length in kernel.advised)
