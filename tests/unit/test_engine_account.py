"""The engine's account, on a scripted kernel; needs no kernel feature."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterator

import pytest
from helpers.reports import skipped_by_errno, skips
from helpers.scripted_kernel import (
    HUGE,
    USER_END,
    Area,
    ScriptedKernel,
    advise,
    pages,
    vmas_of,
)
from helpers.targets import GIB
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import IOV_MAX, MAX_RW_COUNT, PAGE_SIZE, Advice, Ranges, Report
from pmadvise._advise.profiles import profile_of


def placed(steps: list[tuple[int, int, int]]) -> Iterator[Area]:
    """Yield areas of (gap before, length, errno)."""
    at = 1
    for gap, length, number in steps:
        at += gap
        yield Area(pages(at), pages(at + length), number)
        at += length


any_areas = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(1, 6), st.sampled_from([0, 0, 0, errno.EINVAL])
    ),
    max_size=8,
).map(lambda steps: list(placed(steps)))
any_ranges = st.lists(
    st.tuples(st.integers(0, 60).map(pages), st.integers(0, pages(20)))
    | st.just((USER_END, PAGE_SIZE)),
    max_size=12,
)


def errno_at(areas: list[Area], address: int) -> int:
    """Return the errno of an address, 0 if it can be advised."""
    if address >= USER_END:
        return errno.EFAULT
    for area in areas:
        if area.start <= address < area.end:
            return area.errno
    return errno.ENOMEM


def refused_ends(
    areas: list[Area], ranges: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the first and last address of each page to be refused, with its errno."""
    return [
        (end, errno_at(areas, at))
        for address, length in ranges
        for at in range(address, address + length, PAGE_SIZE)
        for end in (at, min(at + PAGE_SIZE, address + length) - 1)
        if errno_at(areas, at)
    ]


def skipped_ends(report: Report) -> list[tuple[int, int]]:
    """Return the first and last address of each page that was skipped."""
    return [
        (end, number)
        for address, length, number in skips(report)
        for at in range(address, address + length, PAGE_SIZE)
        for end in (at, min(at + PAGE_SIZE, address + length) - 1)
    ]


@given(
    areas=any_areas,
    stale=st.none() | any_areas,
    ranges=any_ranges,
    max_stall=st.sampled_from([None, 0.05, 1e-9]),
    max_element=st.sampled_from([MAX_RW_COUNT, PAGE_SIZE, 4 * PAGE_SIZE]),
)
def test_every_byte_is_accounted_for(
    areas: list[Area],
    stale: list[Area] | None,
    ranges: list[tuple[int, int]],
    max_stall: float | None,
    max_element: int,
) -> None:
    """Whatever is mapped, asked and remembered wrongly: the account is the truth."""
    report = advise(
        ScriptedKernel(areas),
        ranges,
        snapshot=None if stale is None else vmas_of(stale),
        max_stall=max_stall,
        profile=dataclasses.replace(
            profile_of(Advice.COLD), max_element=lambda: max_element
        ),
    )
    refused = sum(s.length for s in report.skipped)
    assert (report.ended, report.not_tried) == ("complete", 0)
    assert report.requested == sum(length for _, length in ranges)
    assert report.advised == report.requested - refused
    assert skipped_ends(report) == refused_ends(areas, ranges)


@pytest.mark.parametrize("n", [1, 1024, 1025, 5000])
@pytest.mark.parametrize("max_stall", [None, 0.05])
def test_any_number_of_ranges(n: int, max_stall: float | None) -> None:
    """Ranges are advised in the order asked, none lost."""
    kernel = ScriptedKernel([Area(0, pages(10_000))])
    asked = [(pages(2 * i), PAGE_SIZE) for i in range(n)][::-1]
    report = advise(kernel, asked, max_stall=max_stall)
    assert report.advised == report.requested == n * PAGE_SIZE
    assert [one for vector in kernel.calls for one in vector] == asked
    assert report.calls == len(kernel.calls)


def test_as_few_calls_as_can_be() -> None:
    """Without a bound on the stall, 1,024 ranges go in a call."""
    kernel = ScriptedKernel([Area(0, pages(10_000))])
    report = advise(
        kernel, [(pages(2 * i), PAGE_SIZE) for i in range(5000)], max_stall=None
    )
    assert report.calls == -(-5000 // IOV_MAX)


@pytest.mark.parametrize(
    "asked", [[(0, 6 * GIB)], [(0, 3 * GIB), (3 * GIB, 3 * GIB)], [(0, 3 * GIB)] * 2]
)
@pytest.mark.parametrize("max_stall", [None, 0.05])
def test_more_than_a_call_takes(
    asked: list[tuple[int, int]], max_stall: float | None
) -> None:
    """6 GiB are advised whole, in calls that the kernel does not cut."""
    kernel = ScriptedKernel([Area(0, 6 * GIB)])
    report = advise(kernel, asked, max_stall=max_stall)
    assert (report.advised, report.skipped) == (6 * GIB, ())


@pytest.mark.parametrize("parts", [1, 5, 100])
def test_hole_and_locked(parts: int) -> None:
    """A hole and a locked mapping are skipped with their errno, the rest goes on."""
    kernel = ScriptedKernel(
        [
            Area(0, pages(40)),
            Area(pages(45), pages(60)),
            Area(pages(60), pages(80), errno.EINVAL),
            Area(pages(80), pages(100)),
        ]
    )
    size = pages(100) // parts
    report = advise(kernel, [(i * size, size) for i in range(parts)])
    assert (report.advised, report.ended) == (pages(75), "complete")
    assert skipped_by_errno(report) == {
        errno.ENOMEM: Ranges([(pages(40), pages(5))]),
        errno.EINVAL: Ranges([(pages(60), pages(20))]),
    }


def test_a_skip_for_each_range_asked() -> None:
    """The refusals of one range are one Skip, however many calls they took."""
    kernel = ScriptedKernel([Area(0, 8 * GIB, errno.EINVAL)])
    report = advise(kernel, [(0, GIB), (GIB, GIB)])
    assert skips(report) == [(0, GIB, errno.EINVAL), (GIB, GIB, errno.EINVAL)]


def test_huge_hole_costs_nothing() -> None:
    """128 GiB of nothing are one Skip and no call with ranges."""
    report = advise(ScriptedKernel(), [(0, 128 * GIB)])
    assert skips(report) == [(0, 128 * GIB, errno.ENOMEM)]
    assert report.calls == 0


def test_a_call_that_returns_nothing() -> None:
    """A result of 0 bytes is a Skip with EIO and a reason, and not a success."""
    kernel = ScriptedKernel([Area(0, pages(4))], returns_nothing=True)
    report = advise(kernel, [(0, pages(4))])
    assert skips(report) == [(0, pages(4), errno.EIO)]
    assert "Success" not in report.skipped[0].reason
    assert report.skipped[0].reason


def test_willneed_asks_for_no_more_than_readahead() -> None:
    """Elements of WILLNEED have as many bytes as readahead takes at a time."""
    kernel = ScriptedKernel([Area(0, GIB)])
    advise(kernel, [(0, GIB)], Advice.WILLNEED)
    longest = max(length for vector in kernel.calls for _, length in vector)
    assert longest == max(128 << 10, PAGE_SIZE)


def test_collapse_is_cut_at_huge_pages() -> None:
    """Elements of COLLAPSE end on boundaries of huge pages, none is longer than one."""
    kernel = ScriptedKernel([Area(0, GIB)])
    profile = dataclasses.replace(profile_of(Advice.COLLAPSE), max_element=lambda: HUGE)
    advise(kernel, [(PAGE_SIZE, 4 * HUGE)], Advice.COLLAPSE, profile=profile)
    ends = [address + length for vector in kernel.calls for address, length in vector]
    assert ends == [HUGE, 2 * HUGE, 3 * HUGE, 4 * HUGE, 4 * HUGE + PAGE_SIZE]


def test_no_call_is_made_into_a_hole() -> None:
    """What a fresh look shows not to be mapped is skipped without being asked for."""
    mapped = [(pages(4 * i), pages(2)) for i in range(4)]
    kernel = ScriptedKernel([Area(start, start + n) for start, n in mapped])
    report = advise(kernel, [(0, pages(16))])
    assert [one for call in kernel.calls for one in call] == mapped
    assert (report.advised, len(report.skipped)) == (pages(8), 4)


def test_a_snapshot_spares_a_look() -> None:
    """The mappings that ranges were selected from are not looked at again."""
    looked: list[Ranges] = []
    areas = [Area(0, pages(4))]
    kernel = ScriptedKernel(areas, before_look=looked.append)
    report = advise(kernel, [(0, pages(4))], snapshot=vmas_of(areas))
    assert (report.advised, looked) == (pages(4), [])


def test_a_skip_has_the_reason_of_its_advice() -> None:
    """An errno means for COLLAPSE what it means for no other advice."""
    kernel = ScriptedKernel([Area(0, HUGE, errno.EINVAL)])
    report = advise(kernel, [(0, HUGE)], Advice.COLLAPSE)
    assert "huge page" in report.skipped[0].reason
