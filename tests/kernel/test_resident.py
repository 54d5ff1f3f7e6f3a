"""Pages in memory, by both ways that kernels offer to ask."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from pathlib import Path

import pytest
from helpers import proc
from helpers.children import in_child
from helpers.privileges import become_nobody_with
from helpers.targets import PAGE, Target, pages

from pmadvise import Advice, Process, Ranges, residency

root = pytest.mark.needs_root


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@pytest.mark.parametrize(
    "more", ["", ", flags=SHARED | ANONYMOUS"], ids=["private", "shared"]
)
def test_touched_pages(target: Target, process: Process, more: str) -> None:
    """Memory that was written to is resident, page by page, and no other."""
    address = target.touched("(0, 1, 2, 9, 63)", more=more)
    area = Ranges([(address, 64 * PAGE)])
    assert process.resident(area) == pages(address, 0, 1, 2, 9, 63)
    assert process.swapped(area) == Ranges()


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@root
def test_the_zero_page_is_not_resident(target: Target, process: Process) -> None:
    """Memory that was only read shows the zero page: not resident, as in Rss."""
    address = target.touched("(3,)")
    target.run(f"look({address}, range(8))")
    assert process.resident(Ranges([(address, 64 * PAGE)])) == pages(address, 3)
    assert target.smaps(address, "Rss") == PAGE


def test_the_huge_zero_page_is_not_resident(target: Target, process: Process) -> None:
    """The huge zero page is not resident, as in Rss."""
    # In the entries it is a page of a file on the kernels that have PAGEMAP_SCAN.
    pmd = proc.huge_page_size()
    area = target.map(4 * pmd)
    address = -(-area // pmd) * pmd
    target.run(f"madvise({area}, {4 * pmd}, {Advice.HUGEPAGE})")
    target.run(f"look({address}, [0])")
    target.run(f"touch({address + pmd}, [0])")
    assert process.resident(Ranges([(area, 4 * pmd)])).total == target.smaps(
        area, "Rss"
    )


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_huge_pages(target: Target, process: Process) -> None:
    """A huge page is resident as a whole."""
    pmd = proc.huge_page_size()
    area = target.map(4 * pmd)
    address = -(-area // pmd) * pmd
    target.run(f"madvise({area}, {4 * pmd}, {Advice.HUGEPAGE})")
    target.run(f"touch({address}, [0])")
    found = process.resident(Ranges([(area, 4 * pmd)]))
    assert found.total == target.smaps(area, "Rss")
    assert found == Ranges([(address, found.total)])


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@pytest.mark.parametrize("flags", ["SHARED", "PRIVATE"])
def test_file_pages(
    target: Target, process: Process, tmp_path: Path, flags: str
) -> None:
    """Pages of a file are resident where they are mapped, as in Rss."""
    path = tmp_path / "file"
    path.write_bytes(b"f" * 512 * PAGE)
    address = target.mapped_file(path, 512 * PAGE, f", flags={flags}")
    area = Ranges([(address, 512 * PAGE)])
    assert process.resident(area) == Ranges()
    target.run(f"look({address}, (0, 1, 300))")
    found = process.resident(area)
    assert found.total == target.smaps(address, "Rss")
    assert found & pages(address, 0, 1, 300) == pages(address, 0, 1, 300)


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_pages_shared_with_a_fork(
    target: Target, process: Process, request: pytest.FixtureRequest
) -> None:
    """Pages shared by copy-on-write are resident in both, and after it in one each."""
    address = target.touched("range(0, 64, 2)")
    area = Ranges([(address, 64 * PAGE)])
    child: Process = request.getfixturevalue("fork")
    expected = pages(address, *range(0, 64, 2))
    assert (process.resident(area), child.resident(area)) == (expected, expected)
    target.run(f"touch({address}, [1])")
    assert process.resident(area) == pages(address, 1, *range(0, 64, 2))
    assert child.resident(area) == expected


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
def test_adjacent_mappings(target: Target, process: Process) -> None:
    """Adjacent pages are one range, even across the boundary of two VMAs."""
    address = target.touched("range(4, 8)", size=16)
    target.run(f"protect({address}, {6 * PAGE}, READ)")
    everywhere = process.resident()
    assert (address + 4 * PAGE, 4 * PAGE) in list(everywhere)
    assert everywhere == everywhere.merged()


@pytest.mark.usefixtures("with_and_without_pagemap_scan")
@root
def test_as_the_same_user() -> None:
    """A user who is not root sees the pages of his own processes."""

    def look() -> bool:
        become_nobody_with()
        memory = mmap.mmap(-1, 64 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for i in (0, 5, 6):
            memory[i * PAGE] = 1
        with Process(os.getpid()) as process:
            area = Ranges([(address, 64 * PAGE)])
            return process.resident(area) == pages(address, 0, 5, 6)

    assert in_child(look)[:4] == (None, None, "", True)


def test_other_errors_are_raised(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries of pagemap are read only where PAGEMAP_SCAN is missing."""

    def failing(*arguments: object) -> None:
        raise OSError(errno.ENOMEM, "PAGEMAP_SCAN")

    monkeypatch.setattr(residency, "pagemap_scan", failing)
    with pytest.raises(OSError, match="PAGEMAP_SCAN") as caught:
        process.resident()
    assert caught.value.errno == errno.ENOMEM
