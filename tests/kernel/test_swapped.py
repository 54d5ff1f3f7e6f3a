"""Pages in swap, by both ways that kernels offer to ask."""

from __future__ import annotations

import errno

import pytest
from helpers.filters import PAGEMAP_SCAN, without_ioctls
from helpers.targets import LRU_BATCH, MIB, PAGE, Target, pages

from pmadvise import Advice, Process, Ranges, process_madvise

root = pytest.mark.needs_root
swap = pytest.mark.needs_swap


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@root
@swap
def test_swapped_pages(target: Target, process: Process) -> None:
    """Memory that was paged out is swapped, and resident when touched again."""
    size = 8 * MIB
    address = target.filled(size)
    area = Ranges([(address, size)])
    process_madvise(target.pidfd, area, Advice.PAGEOUT)
    inside, outside = process.resident(area), process.swapped(area)
    assert outside.total == target.smaps(address, "Swap") >= size - LRU_BATCH
    assert inside.total == target.smaps(address, "Rss")
    assert (inside & outside, inside | outside) == (Ranges(), area)
    assert target.intact(address, size)
    assert (process.swapped(area), process.resident(area)) == (Ranges(), area)


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@root
@swap
def test_every_other_page_swapped(target: Target, process: Process) -> None:
    """Pages in swap are found one by one among those beside them."""
    n = 4000
    address = target.touched(f"range({n})", size=n)
    target.filled(LRU_BATCH * 2)  # fills the batch
    odd = Ranges((address + i * PAGE, PAGE) for i in range(1, n, 2))
    for i in range(0, len(odd), 1000):
        process_madvise(target.pidfd, odd[i : i + 1000], Advice.PAGEOUT)
    area = Ranges([(address, n * PAGE)])
    found = process.swapped(area)
    assert found - odd == Ranges()
    assert found.total == target.smaps(address, "Swap") >= odd.total - LRU_BATCH
    assert process.resident(area) == area - found


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_guard_pages_are_not_swapped(target: Target, process: Process) -> None:
    """A guard page is neither in memory nor in swap."""
    address = target.touched("range(64)")
    try:
        target.run(f"madvise({address} + 8 * PAGE, {8 * PAGE}, {Advice.GUARD_INSTALL})")
    except RuntimeError as error:
        if f"({errno.EINVAL}," not in str(error):
            raise
        pytest.skip("kernel: it has no MADV_GUARD_INSTALL, Linux 6.13")
    area = Ranges([(address, 64 * PAGE)])
    assert process.swapped(area) == Ranges()
    assert process.resident(area) == pages(address, *range(8), *range(16, 64))


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_everything_that_is_mapped(process: Process) -> None:
    """All VMAs, [vsyscall] too, hold the pages that are found without any."""
    assert process.resident(process.maps().select()) == process.resident()


@root
@swap
def test_both_ways_agree(target: Target, process: Process) -> None:
    """Of a process with every kind of memory both ways give the same answer."""
    target.touched("range(0, 64, 3)")
    target.run(f"look(map({64 * PAGE}), range(64))")
    target.run(f"filled({MIB}, flags=SHARED | ANONYMOUS)")
    area = Ranges([(target.filled(4 * MIB), 4 * MIB)])
    process_madvise(target.pidfd, area, Advice.PAGEOUT)
    by_scan = process.resident(), process.swapped()
    by_entries: list[Ranges] = []
    without_ioctls(
        lambda: by_entries.extend((process.resident(), process.swapped())),
        PAGEMAP_SCAN,
    )
    assert tuple(by_entries) == by_scan
    assert by_scan[0].total >= MIB
    assert by_scan[1].total >= 4 * MIB - LRU_BATCH
