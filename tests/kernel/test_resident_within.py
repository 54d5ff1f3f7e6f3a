"""Where to look for pages in memory, by both ways that kernels offer to ask."""

from __future__ import annotations

import platform

import pytest
from helpers.targets import PAGE, Target, pages

from pmadvise import Process, Ranges


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 1000, 5000])
def test_within_ranges(target: Target, process: Process, n: int) -> None:
    """Of any number of ranges exactly what lies in them is found."""
    address = target.touched("range(0, 15000, 2)", size=15000)
    within = Ranges((address + 3 * i * PAGE, PAGE) for i in range(n))
    expected = pages(address, *range(0, 3 * n, 6))
    assert process.resident(within) == expected


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_within_in_any_order(target: Target, process: Process) -> None:
    """Ranges that overlap, in no order, are looked at as what they cover."""
    address = target.touched("range(10)")
    within = [(address + 5 * PAGE, 9 * PAGE), (address, 2 * PAGE), (address, 6 * PAGE)]
    assert process.resident(within) == pages(address, *range(10))


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@pytest.mark.parametrize(
    ("within", "expected"),
    [
        ([(100, 50)], [(100, 50)]),
        ([(PAGE - 1, 2)], [(PAGE - 1, 2)]),
        ([(0, 10), (20, 10)], [(0, 10), (20, 10)]),
        ([(2 * PAGE - 7, PAGE)], [(2 * PAGE - 7, 7)]),
        ([(2 * PAGE + 1, PAGE - 2)], []),
        ([(PAGE, 0)], []),
    ],
)
def test_within_parts_of_pages(
    target: Target,
    process: Process,
    within: list[tuple[int, int]],
    expected: list[tuple[int, int]],
) -> None:
    """Of pages asked in part that part is told."""
    address = target.touched("(0, 1)")
    asked = Ranges((address + start, length) for start, length in within)
    found = [(start - address, length) for start, length in process.resident(asked)]
    assert found == expected


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@pytest.mark.parametrize("top", [1 << 47, 1 << 48, 1 << 57, 1 << 63, (1 << 64) - 1])
def test_within_more_than_user_space(
    target: Target, process: Process, top: int
) -> None:
    """Ranges that reach past user space give what there is below."""
    address = target.touched("range(10)")
    found = process.resident(Ranges([(address, top - address)]))
    assert found & Ranges([(address, 64 * PAGE)]) == pages(address, *range(10))
    assert process.resident(Ranges([(0, top)])) == process.resident()


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="addresses of x86_64")
@pytest.mark.parametrize(
    "address", [(1 << 47) - PAGE, 1 << 47, 0xFFFF_FFFF_FF60_0000, (1 << 64) - PAGE]
)
def test_within_what_is_no_user_space(process: Process, address: int) -> None:
    """[vsyscall] and what else lies above user space holds no page of the process."""
    assert process.resident(Ranges([(address, PAGE - 1)])) == Ranges()
    assert process.swapped(Ranges([(address, PAGE - 1)])) == Ranges()
