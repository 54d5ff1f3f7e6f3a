"""What is in memory and in swap, by both ways that kernels offer to ask."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.targets import LRU_BATCH, MIB, PAGE, Target, become_nobody, in_child

from pmadvise import Advice, Memory, Process, Ranges, _sys, process_madvise, residency
from pmadvise.maps import read_proc

root = pytest.mark.needs_root
swap = pytest.mark.needs_swap
PMD = 2 * MIB
GUARD_INSTALL = 102


def no_pagemap_scan(*arguments: object) -> None:
    raise OSError(errno.ENOTTY, "PAGEMAP_SCAN")


@pytest.fixture(params=["PAGEMAP_SCAN", "words"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ask by the ioctl, and as on a kernel before Linux 6.7, by pagemap's words."""
    if request.param == "words":
        monkeypatch.setattr(_sys, "pagemap_scan", no_pagemap_scan)
    return str(request.param)


def pages(start: int, *numbers: int) -> Ranges:
    """Return pages of an area by their numbers, merged."""
    return Ranges((start + i * PAGE, PAGE) for i in numbers).merged()


def touched(target: Target, numbers: str, size: int = 64, more: str = "") -> int:
    """Have the target map pages and write to some; return the address."""
    address: int = target.run(f"map({size * PAGE}{more})")
    target.run(f"[ctypes.memset({address} + i * PAGE, 1, 1) for i in {numbers}]")
    return address


@pytest.fixture
def fork(target: Target) -> Iterator[Process]:
    """A fork of the target, made where the test says so by fork.pid."""
    target.run("None")
    pid = target.run("os.fork() or (signal.pause(), os._exit(0))")
    with Process(pid) as handle:
        yield handle
    os.kill(pid, 9)


# Pages in memory


@pytest.mark.parametrize("more", ["", ", flags=0x21"], ids=["private", "shared"])
def test_touched_pages(target: Target, process: Process, way: str, more: str) -> None:
    """Memory that was written to is resident, page by page, and no other."""
    address = touched(target, "(0, 1, 2, 9, 63)", more=more)
    area = Ranges([(address, 64 * PAGE)])
    assert process.resident(area) == pages(address, 0, 1, 2, 9, 63)
    assert process.swapped(area) == Ranges()


@root
def test_the_zero_page_is_not_resident(
    target: Target, process: Process, way: str
) -> None:
    """What was only read shows the zero page, which is not resident, as in Rss."""
    address = touched(target, "(3,)")
    target.run(f"[ctypes.string_at({address} + i * PAGE, 1) for i in range(8)]")
    assert process.resident(Ranges([(address, 64 * PAGE)])) == pages(address, 3)
    assert target.smaps(address, "Rss") == PAGE


def test_the_huge_zero_page_is_not_resident(target: Target, process: Process) -> None:
    """The huge zero page is not resident, as in Rss."""
    # By the words it is a page of a file on the kernels that have PAGEMAP_SCAN.
    area = target.run(f"map({4 * PMD})")
    address = -(-area // PMD) * PMD
    target.run(f"madvise({area}, {4 * PMD}, 14)")  # MADV_HUGEPAGE
    target.run(f"ctypes.string_at({address}, 1)")
    target.run(f"ctypes.memset({address} + {PMD}, 1, 1)")
    assert process.resident(Ranges([(area, 4 * PMD)])).total == target.smaps(
        area, "Rss"
    )


def test_huge_pages(target: Target, process: Process, way: str) -> None:
    """A huge page is resident as a whole."""
    area = target.run(f"map({4 * PMD})")
    address = -(-area // PMD) * PMD
    target.run(f"madvise({area}, {4 * PMD}, 14)")
    target.run(f"ctypes.memset({address}, 1, 1)")
    found = process.resident(Ranges([(area, 4 * PMD)]))
    assert found.total == target.smaps(area, "Rss")
    assert found == Ranges([(address, found.total)])


@pytest.mark.parametrize("flags", [1, 2], ids=["shared", "private"])
def test_file_pages(
    target: Target, process: Process, way: str, tmp_path: Path, flags: int
) -> None:
    """Pages of a file are resident where they are mapped, as in Rss."""
    path = tmp_path / "file"
    path.write_bytes(b"f" * 512 * PAGE)
    address = target.run(
        f"map({512 * PAGE}, flags={flags}, fd=os.open({str(path)!r}, 2))"
    )
    area = Ranges([(address, 512 * PAGE)])
    assert process.resident(area) == Ranges()
    target.run(f"[ctypes.string_at({address} + i * PAGE, 1) for i in (0, 1, 300)]")
    found = process.resident(area)
    assert found.total == target.smaps(address, "Rss")
    assert found & pages(address, 0, 1, 300) == pages(address, 0, 1, 300)


def test_pages_shared_with_a_fork(
    target: Target, process: Process, way: str, request: pytest.FixtureRequest
) -> None:
    """Pages shared by copy-on-write are resident in both, and after it in one each."""
    address = touched(target, "range(0, 64, 2)")
    area = Ranges([(address, 64 * PAGE)])
    child: Process = request.getfixturevalue("fork")
    expected = pages(address, *range(0, 64, 2))
    assert (process.resident(area), child.resident(area)) == (expected, expected)
    target.run(f"ctypes.memset({address} + PAGE, 1, 1)")
    assert process.resident(area) == pages(address, 1, *range(0, 64, 2))
    assert child.resident(area) == expected


def test_adjacent_mappings(target: Target, process: Process, way: str) -> None:
    """What is adjacent is one range, also across the border of two VMAs."""
    address = touched(target, "range(4, 8)", size=16)
    target.run(f"protect({address}, {6 * PAGE}, 1)")
    everywhere = process.resident()
    assert (address + 4 * PAGE, 4 * PAGE) in list(everywhere)
    assert everywhere == everywhere.merged()


# Pages in swap


@root
@swap
def test_swapped_pages(target: Target, process: Process, way: str) -> None:
    """What was paged out is swapped and not resident, until it is touched again."""
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


@root
@swap
def test_every_other_page_swapped(target: Target, process: Process, way: str) -> None:
    """Pages in swap are told one by one from those beside them."""
    n = 4000
    address = touched(target, f"range({n})", size=n)
    target.run(f"[touch for touch in [filled({LRU_BATCH * 2})]]")  # fills the batch
    odd = Ranges((address + i * PAGE, PAGE) for i in range(1, n, 2))
    for i in range(0, len(odd), 1000):
        process_madvise(target.pidfd, odd[i : i + 1000], Advice.PAGEOUT)
    area = Ranges([(address, n * PAGE)])
    found = process.swapped(area)
    assert found - odd == Ranges()
    assert found.total == target.smaps(address, "Swap") >= odd.total - LRU_BATCH
    assert process.resident(area) == area - found


def test_guard_pages_are_not_swapped(
    target: Target, process: Process, way: str
) -> None:
    """A guard page is neither in memory nor in swap."""
    address = touched(target, "range(64)")
    try:
        target.run(f"madvise({address} + 8 * PAGE, {8 * PAGE}, {GUARD_INSTALL})")
    except RuntimeError as error:
        if f"({errno.EINVAL}," not in str(error):
            raise
        pytest.skip("the kernel has no MADV_GUARD_INSTALL: Linux 6.13")
    area = Ranges([(address, 64 * PAGE)])
    assert process.swapped(area) == Ranges()
    assert process.resident(area) == pages(address, *range(8), *range(16, 64))


# Where to look


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 1000, 5000])
def test_within_ranges(target: Target, process: Process, way: str, n: int) -> None:
    """Of any number of ranges exactly what lies in them is found."""
    address = touched(target, "range(0, 15000, 2)", size=15000)
    within = Ranges((address + 3 * i * PAGE, PAGE) for i in range(n))
    expected = pages(address, *range(0, 3 * n, 6))
    assert process.resident(within) == expected


def test_within_in_any_order(target: Target, process: Process, way: str) -> None:
    """Ranges that overlap, in no order, are looked at as what they cover."""
    address = touched(target, "range(10)")
    within = [(address + 5 * PAGE, 9 * PAGE), (address, 2 * PAGE), (address, 6 * PAGE)]
    assert process.resident(within) == pages(address, *range(10))


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
    way: str,
    within: list[tuple[int, int]],
    expected: list[tuple[int, int]],
) -> None:
    """Of pages asked in part that part is told."""
    address = touched(target, "(0, 1)")
    asked = Ranges((address + start, length) for start, length in within)
    found = [(start - address, length) for start, length in process.resident(asked)]
    assert found == expected


@pytest.mark.parametrize("top", [1 << 47, 1 << 48, 1 << 57, 1 << 63, (1 << 64) - 1])
def test_within_more_than_user_space(
    target: Target, process: Process, way: str, top: int
) -> None:
    """Ranges that reach past user space give what there is below."""
    address = touched(target, "range(10)")
    found = process.resident(Ranges([(address, top - address)]))
    assert found & Ranges([(address, 64 * PAGE)]) == pages(address, *range(10))
    assert process.resident(Ranges([(0, top)])) == process.resident()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="addresses of x86_64")
@pytest.mark.parametrize(
    "address", [(1 << 47) - PAGE, 1 << 47, 0xFFFF_FFFF_FF60_0000, (1 << 64) - PAGE]
)
def test_within_what_is_no_user_space(process: Process, way: str, address: int) -> None:
    """[vsyscall] and what else lies above user space holds no page of the process."""
    assert process.resident(Ranges([(address, PAGE - 1)])) == Ranges()
    assert process.swapped(Ranges([(address, PAGE - 1)])) == Ranges()


def test_everything_that_is_mapped(process: Process, way: str) -> None:
    """All VMAs, [vsyscall] among them, hold what is found with nothing said."""
    assert process.resident(process.maps().select()) == process.resident()


@root
@swap
def test_both_ways_say_the_same(
    target: Target, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a whole process of every kind of memory both ways give the same answer."""
    touched(target, "range(0, 64, 3)")
    target.run(f"ctypes.string_at(map({64 * PAGE}), {64 * PAGE})")
    target.run(f"filled({MIB}, flags=0x21)")
    area = Ranges([(target.filled(4 * MIB), 4 * MIB)])
    process_madvise(target.pidfd, area, Advice.PAGEOUT)
    by_scan = process.resident(), process.swapped()
    monkeypatch.setattr(_sys, "pagemap_scan", no_pagemap_scan)
    assert (process.resident(), process.swapped()) == by_scan
    assert by_scan[0].total >= MIB
    assert by_scan[1].total >= 4 * MIB - LRU_BATCH


@root
def test_as_the_same_user(way: str) -> None:
    """Who is not root sees which pages of his processes are in memory."""

    def look() -> bool:
        become_nobody()
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
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
    """Only a kernel without PAGEMAP_SCAN is asked by the words of pagemap."""

    def failing(*arguments: object) -> None:
        raise OSError(errno.ENOMEM, "PAGEMAP_SCAN")

    monkeypatch.setattr(_sys, "pagemap_scan", failing)
    with pytest.raises(OSError, match="PAGEMAP_SCAN") as caught:
        process.resident()
    assert caught.value.errno == errno.ENOMEM


# Memory


@pytest.mark.parametrize("rollup", [True, False], ids=["smaps_rollup", "without"])
@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("filled({size})", {"rss", "anonymous"}),
        ("filled({size}, flags=0x21)", {"rss", "shmem"}),
        (
            "intact(map({size}, flags=2, prot=1, fd=os.open({path!r}, 0)), {size})",
            {"rss", "file"},
        ),
        pytest.param(
            "lock(map({size}), {size})", {"rss", "anonymous", "locked"}, marks=root
        ),
        (
            "[ctypes.string_at(a + i * PAGE, 1)"
            " for a in (map({size}),) for i in range({size} // PAGE)][:0]",
            set(),
        ),
    ],
    ids=["anonymous", "shmem", "file", "locked", "zero"],
)
def test_memory(
    target: Target,
    process: Process,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rollup: bool,
    code: str,
    fields: set[str],
) -> None:
    """Each field moves by what the target does, and no other field does."""
    if not rollup:
        without_rollup(monkeypatch)
    size, path = 16 * MIB, str(tmp_path / "file")
    Path(path).write_bytes(b"pmadvise" * (size // 8))
    target.run(f"intact({target.filled(size)}, {size})")  # what ctypes needs itself
    before = process.memory()
    target.run(code.format(size=size, path=path))
    after = process.memory()
    names = ("rss", "anonymous", "file", "shmem", "swap", "locked")
    moved = {n for n in names if getattr(after, n) - getattr(before, n) >= size}
    stayed = {n for n in names if abs(getattr(after, n) - getattr(before, n)) < MIB}
    assert (moved, stayed) == (fields, set(names) - fields)


@root
@swap
def test_memory_in_swap(target: Target, process: Process) -> None:
    """What is paged out moves from rss to swap."""
    address, before = target.filled(16 * MIB), process.memory()
    process_madvise(target.pidfd, [(address, 16 * MIB)], Advice.PAGEOUT)
    after = process.memory()
    assert after.swap - before.swap >= 15 * MIB
    assert before.rss - after.rss >= 15 * MIB
    assert after.swap == target.status("VmSwap")


def test_pss_divides_by_those_who_share(
    target: Target, process: Process, request: pytest.FixtureRequest
) -> None:
    """A page that two processes map is half a page of each one's pss."""
    target.filled(32 * MIB)
    before = process.memory()
    request.getfixturevalue("fork")
    after = process.memory()
    assert before.pss is not None
    assert after.pss is not None
    assert before.pss - after.pss >= 15 * MIB
    assert abs(before.rss - after.rss) < MIB


def without_rollup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have /proc lack smaps_rollup, as built without CONFIG_PROC_PAGE_MONITOR."""

    def lacking(proc: int, name: str) -> bytes:
        if name == "smaps_rollup":
            name = "smaps_rollup_that_is_not_there"
        return read_proc(proc, name)

    monkeypatch.setattr(residency, "read_proc", lacking)


def test_memory_without_smaps_rollup(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without smaps_rollup pss is not known, and the rest is about the same."""
    full = process.memory()
    without_rollup(monkeypatch)
    less = process.memory()
    assert isinstance(less, Memory)
    assert less.pss is None
    for name in ("rss", "anonymous", "file", "shmem", "swap", "locked"):
        assert abs(getattr(less, name) - getattr(full, name)) < MIB


@pytest.mark.parametrize(
    "name", ["a kB", "9 kB", "VmLck: 9 kB", "x\rVmRSS:\t9 kB", ") Z 1", "\xff\n\\"]
)
def test_names_of_processes(target: Target, process: Process, name: str) -> None:
    """Whatever a process calls itself, its numbers are the kernel's."""
    before = process.memory()
    target.run(f"libc.prctl(15, {name.encode('latin-1')!r}, 0, 0, 0)")
    assert process.alive is True
    assert process.memory().locked == 0
    assert abs(process.memory().rss - before.rss) < MIB


def test_locked_mappings(target: Target, tmp_path: Path) -> None:
    """Locked VMAs are told by smaps, whatever their names are like."""
    path = tmp_path / "VmFlags: lo\n1-2 "
    path.write_bytes(b"f" * 4 * PAGE)
    plain = target.run(f"map({4 * PAGE}, flags=2, fd=os.open({str(path)!r}, 2))")
    address = target.run(f"map({4 * PAGE}, flags=2, fd=os.open({str(path)!r}, 2))")
    target.run(f"lock({address} + PAGE, {2 * PAGE})")
    found = residency.locked(Path(f"/proc/{target.pid}/smaps").read_bytes())
    assert found == Ranges([(address + PAGE, 2 * PAGE)])
    assert found & Ranges([(plain, 4 * PAGE)]) == Ranges()
