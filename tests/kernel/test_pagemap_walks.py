"""Which addresses a walk over the pages goes through, and in what steps."""

from __future__ import annotations

import os

import pytest

from pmadvise import PAGE_SIZE, Ranges, residency
from pmadvise._handle.identity import Identity
from pmadvise._handle.mm import open_mm
from pmadvise._native.pagemap import (
    MOST_ADDRESSES,
    PAGE_IS_PRESENT,
    pagemap_scan,
    walks,
)

GIB = 1 << 30
TOP = 1 << 64
PAIRS_OF_PAGES = [(0x1000 * PAGE_SIZE, PAGE_SIZE), (0x1002 * PAGE_SIZE, PAGE_SIZE)]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], []),
        ([(PAGE_SIZE, PAGE_SIZE)], [(PAGE_SIZE, 2 * PAGE_SIZE)]),
        ([(PAGE_SIZE + 1, 1)], [(PAGE_SIZE, 2 * PAGE_SIZE)]),
        ([(PAGE_SIZE, PAGE_SIZE + 1)], [(PAGE_SIZE, 3 * PAGE_SIZE)]),
        ([(0, 1), (2, 1)], [(0, PAGE_SIZE)]),
        (PAIRS_OF_PAGES, [(0x1000 * PAGE_SIZE, 0x1003 * PAGE_SIZE)]),
        ([(0, PAGE_SIZE), (GIB, 1)], [(0, PAGE_SIZE), (GIB, GIB + PAGE_SIZE)]),
        (
            [(TOP - 2 * PAGE_SIZE, 2 * PAGE_SIZE)],
            [(TOP - 2 * PAGE_SIZE, TOP - PAGE_SIZE)],
        ),
    ],
)
def test_walks(ranges: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    """Ranges are rounded to pages, and those that are close are one walk."""
    assert walks(Ranges(ranges).merged()._array) == expected


def test_many_ranges() -> None:
    """Very many ranges are few walks, and large gaps are still left out."""
    low = [(i * GIB, PAGE_SIZE) for i in range(1000)]
    high = [(TOP // 4 + i * GIB, PAGE_SIZE) for i in range(1000)]
    assert walks(Ranges(low + high)._array) == [
        (0, 999 * GIB + PAGE_SIZE),
        (TOP // 4, TOP // 4 + 999 * GIB + PAGE_SIZE),
    ]


def test_a_bounded_scan_is_in_steps() -> None:
    """A bounded scan goes by few addresses each, however empty they are."""
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    span = [(1 << 40, 2 << 40)]
    steps: dict[bool, int] = {False: 0, True: 0}

    def count(is_bounded: bool) -> int:
        def step() -> None:
            steps[is_bounded] += 1

        pagemap_scan(fd, span, PAGE_IS_PRESENT, 0, step, is_bounded)
        return steps[is_bounded]

    try:
        assert (count(is_bounded=False), count(is_bounded=True) >= 16) == (1, True)
    finally:
        os.close(fd)


@pytest.mark.parametrize(("page_tables", "steps"), [(1 << 30, 1), (0, 32)])
def test_few_page_tables_are_one_step(
    monkeypatch: pytest.MonkeyPatch, page_tables: int, steps: int
) -> None:
    """Reserved addresses take no steps where there are too few page tables to walk."""
    monkeypatch.setattr(residency, "MOST_PAGE_TABLES", page_tables)
    taken: list[None] = []
    mm = open_mm(Identity.open(os.getpid()))
    with residency.Pagemap(mm, lambda: taken.append(None)) as pagemap:
        pagemap.resident(Ranges([(1 << 40, 32 * MOST_ADDRESSES * 16)]))
    assert len(taken) == steps
