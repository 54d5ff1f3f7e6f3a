"""The sums of the memory of a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.names import LIES, SEPARATORS
from helpers.targets import MIB, Target

from pmadvise import Advice, Memory, Process, process_madvise
from pmadvise._proc.identity import Identity

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
            "intact(map({size}, flags=PRIVATE, prot=READ, fd=os.open({path!r}, 0)), {size})",
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
