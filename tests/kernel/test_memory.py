"""The sums of the memory of a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.names import LIES, SEPARATORS
from helpers.targets import MIB, Target

from pmadvise import Advice, Memory, Process, Ranges, process_madvise
from pmadvise._handle.identity import Identity

root = pytest.mark.needs_root
swap = pytest.mark.needs_swap


def without_rollup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let /proc lack smaps_rollup, as built without CONFIG_PROC_PAGE_MONITOR."""
    read = Identity.read

    def lacking(self: Identity, name: str) -> bytes:
        return read(self, "missing" if name == "smaps_rollup" else name)

    monkeypatch.setattr(Identity, "read", lacking)


@pytest.mark.parametrize("rollup", [True, False], ids=["smaps_rollup", "without"])
@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("filled({size})", {"rss", "anonymous"}),
        ("filled({size}, flags=SHARED | ANONYMOUS)", {"rss", "shmem"}),
        (
            "intact(map({size}, READ, PRIVATE, os.open({path!r}, 0)), {size})",
            {"rss", "file"},
        ),
        pytest.param(
            "lock(map({size}), {size})", {"rss", "anonymous", "locked"}, marks=root
        ),
        ("look(map({size}), range({size} // PAGE))", set()),
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
    """Memory that is paged out moves from rss to swap."""
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


@pytest.mark.parametrize("name", [*LIES, *SEPARATORS, b"\xff\n\\"], ids=repr)
def test_names_of_processes(target: Target, process: Process, name: bytes) -> None:
    """Whatever a process calls itself, its numbers are the kernel's."""
    before = process.memory()
    target.run(f"prctl(PR_SET_NAME, {name!r})")
    assert process.alive is True
    assert process.memory().locked == 0
    assert abs(process.memory().rss - before.rss) < MIB


@pytest.fixture
def hugetlb_pages() -> Iterator[int]:
    """Two hugetlb pages, free for the test; the size of both in bytes."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    if not pool.exists():
        pytest.skip("kernel: built without CONFIG_HUGETLBFS")
    before = pool.read_text()
    pool.write_text(str(int(before) + 2))
    try:
        if int(pool.read_text()) < int(before) + 2:
            pytest.skip("machine: no contiguous memory for hugetlb pages")
        size = next(
            int(line.split()[1]) * 1024
            for line in Path("/proc/meminfo").read_text().split("\n")
            if line.startswith("Hugepagesize:")
        )
        yield 2 * size
    finally:
        pool.write_text(before)


@root
def test_hugetlb(target: Target, process: Process, hugetlb_pages: int) -> None:
    """Hugetlb pages are counted apart, and are not in rss."""
    before = process.memory()
    flags = "PRIVATE | ANONYMOUS | HUGETLB"
    area = target.run(f"checked(libc.mmap(None, {hugetlb_pages}, 3, {flags}, -1, 0))")
    target.run(f"ctypes.memset({area}, 1, {hugetlb_pages})")
    after = process.memory()
    assert after.hugetlb - before.hugetlb == hugetlb_pages
    assert after.rss - before.rss < MIB
    resident = process.resident(Ranges([(area, hugetlb_pages)]))
    target.run(f"unmap({area}, {hugetlb_pages})")
    assert resident.total == hugetlb_pages


@root
@swap
def test_shared_memory_in_swap(target: Target, process: Process) -> None:
    """Shared memory in swap is in swap_with_shmem alone; swapped() leaves it out."""
    size = 8 * MIB
    address = target.filled(size, ", flags=SHARED | ANONYMOUS")
    before = process.memory()
    process_madvise(target.pidfd, [(address, size)], Advice.PAGEOUT)
    after = process.memory()
    assert before.swap_with_shmem is not None
    assert after.swap_with_shmem is not None
    assert after.swap_with_shmem - before.swap_with_shmem >= 7 * MIB
    assert after.swap - before.swap < MIB
    assert process.swapped(Ranges([(address, size)])) == Ranges()


def test_uss(target: Target, process: Process, request: pytest.FixtureRequest) -> None:
    """Memory that a fork shares is not in uss any more, and the same in rss."""
    target.filled(32 * MIB)
    before = process.memory()
    request.getfixturevalue("fork")
    after = process.memory()
    assert before.uss is not None
    assert after.uss is not None
    assert before.uss - after.uss >= 31 * MIB
    assert abs(before.rss - after.rss) < MIB
