"""The effect of each advice on the memory of a target."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import proc
from helpers.page_cache import uncached_file, wait_until_read
from helpers.targets import LRU_BATCH, MIB, PAGE, Target

from pmadvise import (
    Advice,
    process_madvise_range,
)

pytestmark = pytest.mark.needs_root


@pytest.mark.needs_swap
def test_pageout_goes_to_swap(target: Target) -> None:
    """PAGEOUT moves anonymous memory to swap, and it comes back intact."""
    address = target.filled(32 * MIB)
    before = target.status("VmSwap")
    assert (
        process_madvise_range(target.pidfd, address, 32 * MIB, Advice.PAGEOUT)
        == 32 * MIB
    )
    assert target.status("VmSwap") - before >= 31 * MIB
    assert target.intact(address, 32 * MIB)
    assert target.status("VmSwap") - before < MIB


def test_cold_clears_referenced(target: Target) -> None:
    """COLD makes memory unreferenced, and leaves it where it is."""
    address = target.filled(8 * MIB)
    assert target.smaps(address, "Referenced") >= 8 * MIB
    assert process_madvise_range(target.pidfd, address, 8 * MIB, Advice.COLD) == 8 * MIB
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    assert target.smaps(address, "Rss") >= 8 * MIB
    assert target.intact(address, 8 * MIB)


def test_pageout_of_a_file_leaves_memory(target: Target, tmp_path: Path) -> None:
    """PAGEOUT takes clean pages of a private file mapping out of memory."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4 * MIB)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    address = target.mapped_file(path, 4 * MIB, ", prot=READ")
    target.run(f"look({address}, range({4 * MIB // PAGE}))")
    assert target.smaps(address, "Rss") == 4 * MIB
    process_madvise_range(target.pidfd, address, 4 * MIB, Advice.PAGEOUT)
    assert target.smaps(address, "Rss") == 0


def test_willneed_reads_a_file(target: Target, tmp_path: Path) -> None:
    """WILLNEED brings a file into the page cache."""
    path = tmp_path / "file"
    with uncached_file(path, 4 * MIB) as view:
        address = target.mapped_file(path, 4 * MIB, ", prot=READ, flags=SHARED")
        process_madvise_range(target.pidfd, address, 4 * MIB, Advice.WILLNEED)
        wait_until_read(view)


def test_collapse_makes_a_huge_page(target: Target) -> None:
    """COLLAPSE makes one huge page of small ones."""
    pmd = proc.huge_page_size()
    area = target.map(2 * pmd)
    address = -(-area // pmd) * pmd
    target.run(f"fill_small_pages({address}, {pmd})")
    assert target.smaps(address, "AnonHugePages") == 0
    assert process_madvise_range(target.pidfd, address, pmd, Advice.COLLAPSE) == pmd
    assert target.smaps(address, "AnonHugePages") == pmd
    assert target.intact(address, pmd)
