"""The default selections, on real targets."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import proc
from helpers.page_cache import uncached_file, wait_until_read
from helpers.reports import skipped_by_errno
from helpers.targets import GIB, LRU_BATCH, MIB, PAGE, Target

from pmadvise import Advice, Process, Ranges, Report, Status

pytestmark = pytest.mark.needs_root


def anonymous(process: Process) -> Ranges:
    """Return the private anonymous memory that is in memory."""
    return process.resident(process.maps().select(anonymous=True, private=True))


def test_cold_default(target: Target, process: Process) -> None:
    """cold() makes the private anonymous memory that is in memory unreferenced."""
    address = target.filled(16 * MIB)
    target.map(16 * MIB)
    expected = anonymous(process).total
    report = process.cold()
    assert (report.requested, report.advised) == (expected, expected)
    assert (report.advice, report.ended) == (Advice.COLD, "complete")
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    assert target.intact(address, 16 * MIB)


@pytest.mark.parametrize("flags", ["SHARED | ANONYMOUS", "SHARED", "PRIVATE"])
def test_cold_default_leaves_other_memory(
    target: Target, process: Process, tmp_path: Path, flags: str
) -> None:
    """cold() selects neither shared memory nor files."""
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    more = "" if "ANONYMOUS" in flags else f", fd=os.open({str(path)!r}, 2)"
    address = target.run(f"map({MIB}, flags={flags}{more})")
    target.run(f"look({address}, range({MIB // PAGE}))")
    before = target.smaps(address, "Referenced")
    process.cold()
    assert target.smaps(address, "Referenced") == before >= MIB


@pytest.mark.needs_swap
def test_pageout_default(target: Target, process: Process) -> None:
    """pageout() moves memory to swap, and measure shows it."""
    address = target.filled(32 * MIB)
    target.reserved(64 * GIB)
    report = process.pageout(measure=True)
    assert isinstance(report.before, Status)
    assert isinstance(report.after, Status)
    assert report.requested <= report.before.anonymous
    assert report.after.swap - report.before.swap >= 31 * MIB
    assert report.before.rss - report.after.rss >= 31 * MIB
    assert process.swapped(Ranges([(address, 32 * MIB)])).total >= 31 * MIB
    assert target.intact(address, 32 * MIB)


def test_pageout_leaves_executable_memory(target: Target, process: Process) -> None:
    """pageout() selects no executable memory, and cold() does."""
    address = target.filled(MIB, ", prot=READ | WRITE | EXEC")
    everything = anonymous(process)
    executable = everything & process.maps().select(executable=True)
    selected = process.cold(budget=0).requested, process.pageout(budget=0).requested
    assert executable.total >= MIB
    assert selected == (everything.total, everything.total - executable.total)
    assert target.intact(address, MIB)


@pytest.mark.parametrize("advise", [Process.cold, Process.pageout])
def test_locked_memory_is_skipped(
    target: Target, process: Process, advise: Callable[..., Report]
) -> None:
    """Locked memory is selected with the rest, and stands in `skipped`."""
    address = target.filled(MIB)
    target.run(f"lock({address}, {MIB})")
    report = advise(process)
    assert skipped_by_errno(report) == {errno.EINVAL: Ranges([(address, MIB)])}
    assert report.advised + MIB == report.requested
    assert "locked" in report.skipped[0].reason


def test_a_whole_process_locked(target: Target, process: Process) -> None:
    """Of a process that locked all its memory, all that it can lock is in `skipped`."""
    target.run("checked(libc.mlockall(3))")
    address = target.filled(MIB)
    report = process.cold()
    skipped = skipped_by_errno(report)[errno.EINVAL]
    assert (report.advised, report.not_tried) == (proc.droppable(target.pid), 0)
    assert skipped & Ranges([(address, MIB)]) == Ranges([(address, MIB)])


@pytest.mark.needs_swap
def test_willneed_default(target: Target, process: Process) -> None:
    """willneed() asks for the memory in swap, and reads it without a fault."""
    address = target.filled(8 * MIB)
    process.pageout([(address, 8 * MIB)])
    swapped = process.swapped(process.maps().select(anonymous=True, private=True))
    report = process.willneed()
    assert report.ended == "complete"
    assert report.advised == report.requested == swapped.total >= 7 * MIB
    assert target.intact(address, 8 * MIB)


def test_willneed_of_nothing(target: Target, process: Process) -> None:
    """Of a process with nothing in swap willneed() asks for nothing."""
    target.reserved(64 * GIB)
    report = process.willneed()
    assert (report.requested, report.calls, report.ended) == (0, 0, "complete")


def test_willneed_of_a_large_file(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """WILLNEED reads all of a file, where the kernel cuts one range to readahead."""
    path, size = tmp_path / "file", 48 * MIB
    with uncached_file(path, size) as view:
        address = target.mapped_file(path, size, ", prot=READ, flags=SHARED")
        assert process.willneed([(address, size)]).advised == size
        wait_until_read(view)
