"""Huge pages: cold() and pageout() leave them whole, collapse() makes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers import proc
from helpers.targets import MIB, PAGE, Target

from pmadvise import Advice, Process, Ranges, Report

pytestmark = pytest.mark.needs_root

N = 32
STALLS = [0.005, 0.01, 0.05, None]


class HugeArea:
    """Memory of a target in huge pages."""

    def __init__(self, target: Target) -> None:
        self.pmd = proc.huge_page_size()
        area = target.map((N + 1) * self.pmd)
        self.target, self.address = target, -(-area // self.pmd) * self.pmd
        self.size = N * self.pmd
        target.run(f"madvise({area}, {(N + 1) * self.pmd}, {Advice.HUGEPAGE})")
        target.run(f"fill({self.address}, {self.size})")
        if self.huge() != self.size:
            pytest.skip("machine: no free huge pages")

    def huge(self) -> int:
        """Return the bytes in huge pages."""
        return self.target.smaps(self.address, "AnonHugePages")


@pytest.fixture
def area(target: Target) -> HugeArea:
    return HugeArea(target)


@pytest.mark.parametrize("max_stall", STALLS)
def test_cold_splits_none(
    area: HugeArea, process: Process, max_stall: float | None
) -> None:
    """COLD leaves every huge page that lies whole in the range as it is."""
    ranges = [(area.address, area.size)]
    report = process.cold(ranges, max_stall=max_stall)
    assert (report.advised, area.huge()) == (area.size, area.size)


@pytest.mark.parametrize("max_stall", STALLS)
def test_default_of_cold_splits_none(
    area: HugeArea, process: Process, max_stall: float | None
) -> None:
    """So does the default selection."""
    assert process.cold(max_stall=max_stall).ended == "complete"
    assert area.huge() == area.size


@pytest.mark.parametrize("max_stall", STALLS)
def test_ranges_that_cut(
    area: HugeArea, process: Process, max_stall: float | None
) -> None:
    """Only the huge pages that the range itself cuts are split."""
    ranges = [(area.address + PAGE, area.size - 2 * PAGE)]
    process.cold(ranges, max_stall=max_stall)
    assert area.huge() == area.size - 2 * area.pmd


@pytest.mark.isolated  # the kernel counts the huge pages that it splits for all
@pytest.mark.needs_swap
@pytest.mark.parametrize("max_stall", STALLS)
def test_pageout_splits_none(
    area: HugeArea, process: Process, max_stall: float | None
) -> None:
    """The calls of PAGEOUT split no huge page of the range."""

    def split() -> int:
        # less those for want of room in swap: the kernel's own, all in a swap file
        return proc.vmstat("thp_split_page") - proc.vmstat("thp_swpout_fallback")

    before = split()
    process.pageout([(area.address, area.size)], max_stall=max_stall)
    assert split() - before <= N // 8  # the kernel may split a few meanwhile
    assert area.target.intact(area.address, area.size)


def test_pageout_with_a_budget(area: HugeArea, process: Process) -> None:
    """A budget that ends inside a huge page is not exceeded, and splits that one."""
    budget = 3 * area.pmd + PAGE
    report = process.cold([(area.address, area.size)], budget=budget)
    assert (report.advised, report.ended) == (budget, "budget")
    assert area.huge() >= area.size - area.pmd


class SmallArea:
    """Memory of a target in small pages, in blocks of the size of a huge page."""

    def __init__(self, target: Target) -> None:
        self.pmd = proc.huge_page_size()
        area = target.map((N + 1) * self.pmd)
        self.target, self.address = target, -(-area // self.pmd) * self.pmd
        self.per_block = self.pmd // PAGE
        target.run("prctl(PR_SET_THP_DISABLE, 1)")

    def touch(self, block: int, n_pages: int) -> None:
        """Touch the first pages of a block."""
        address = self.address + block * self.pmd
        self.target.run(f"touch({address}, range({n_pages}))")

    def done(self) -> Ranges:
        """Let huge pages be made again; return the memory."""
        self.target.run("prctl(PR_SET_THP_DISABLE, 0)")
        return Ranges([(self.address, N * self.pmd)])

    def smaps(self, name: str) -> int:
        """Return a sum of smaps."""
        return self.target.smaps(self.address, name)


@pytest.fixture
def small(target: Target) -> SmallArea:
    return SmallArea(target)


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_collapse_of_full_blocks(small: SmallArea, process: Process) -> None:
    """collapse() makes huge pages of blocks that are in memory."""
    for block in range(4):
        small.touch(block, small.per_block)
    small.done()
    report = process.collapse()
    assert report.requested % small.pmd == 0
    assert small.smaps("AnonHugePages") == 4 * small.pmd


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_collapse_leaves_sparse_blocks(small: SmallArea, process: Process) -> None:
    """Blocks less than half in memory are left alone: Rss does not grow by them."""
    for block in range(N):
        small.touch(block, 1)
    small.touch(1, small.per_block // 2 - 1)
    small.done()
    before = small.smaps("Rss")
    process.collapse()
    assert (small.smaps("Rss"), small.smaps("AnonHugePages")) == (before, 0)


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_collapse_of_half_full_blocks(small: SmallArea, process: Process) -> None:
    """Blocks at least half in memory are collapsed, and no other."""
    for block in range(N):
        small.touch(block, 1)
    small.touch(5, small.per_block // 2)
    small.touch(9, small.per_block - 1)
    small.done()
    process.collapse()
    assert small.smaps("AnonHugePages") == 2 * small.pmd


@pytest.mark.parametrize(
    ("budget", "huge"), [(MIB, 0), (2 * MIB, 1), (5 * MIB, 2), (99 * MIB, 4)]
)
def test_collapse_with_a_budget(
    small: SmallArea, process: Process, budget: int, huge: int
) -> None:
    """A budget never cuts inside a huge page: all that is advised is collapsed."""
    if small.pmd != 2 * MIB:
        pytest.skip(f"machine: its huge pages have {small.pmd} bytes")
    for block in range(4):
        small.touch(block, small.per_block)
    report = process.collapse(small.done() & process.resident(), budget=budget)
    assert report.advised == small.smaps("AnonHugePages") == huge * small.pmd
    assert report.ended == ("complete" if huge == 4 else "budget")


@pytest.mark.parametrize("default", [Process.cold, Process.pageout])
def test_sparse_memory_is_advised(
    small: SmallArea, process: Process, default: Callable[[Process], Report]
) -> None:
    """Memory of one page in each block is advised all the same."""
    for block in range(N):
        small.touch(block, 1)
    selected = small.done() & process.resident()
    assert selected.total == N * PAGE
    assert default(process).ended == "complete"
