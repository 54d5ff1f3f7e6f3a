"""Changes since a snapshot of a real process."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.targets import PAGE, Target, map_at, new_file

from pmadvise import Process, Ranges


def test_nothing_has_changed(process: Process) -> None:
    """Of a process at rest nothing has changed."""
    space = process.maps()
    assert (space.changed(), space.stale) == (Ranges(), False)


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_changed_names_the_unmapped_vma(target: Target, process: Process) -> None:
    """The VMA that was unmapped is named and no other."""
    addresses = [target.map(8 * PAGE) for _ in range(20)]
    space = process.maps()
    target.run(f"unmap({addresses[7]}, {8 * PAGE})")
    assert (list(space.changed()), space.stale) == ([(addresses[7], 8 * PAGE)], False)


def test_changed_in_part(target: Target, process: Process) -> None:
    """Of a VMA that was split, the part that changed is named, to the page."""
    address = target.map(9 * PAGE)
    space = process.maps()
    target.run(f"protect({address + 3 * PAGE}, {2 * PAGE}, READ)")
    assert list(space.changed()) == [(address + 3 * PAGE, 2 * PAGE)]
    target.run(f"unmap({address + 8 * PAGE}, {PAGE})")
    assert list(space.changed()) == [
        (address + 3 * PAGE, 2 * PAGE),
        (address + 8 * PAGE, PAGE),
    ]


def test_changed_and_back(target: Target, process: Process) -> None:
    """Permissions that are as they were are no change."""
    address = target.map(4 * PAGE)
    space = process.maps()
    target.run(f"protect({address}, {PAGE}, READ)")
    target.run(f"protect({address}, {PAGE}, READ | WRITE)")
    assert space.changed() == Ranges()


@pytest.mark.parametrize(
    ("name", "offset", "flags"),
    [("other", 0, "PRIVATE"), ("file", PAGE, "PRIVATE"), ("file", 0, "SHARED")],
    ids=["another file", "another offset", "shared"],
)
def test_changed_by_another_mapping(
    target: Target,
    process: Process,
    tmp_path: Path,
    name: str,
    offset: int,
    flags: str,
) -> None:
    """Another file, offset or sharing at the same address is a change."""
    address = new_file(target, tmp_path / "file", 8)
    new_file(target, tmp_path / "other", 8)
    space = process.maps()
    map_at(target, address, 4 * PAGE, tmp_path / name, offset, flags)
    assert list(space.changed()) == [(address, 4 * PAGE)]


def test_the_same_file_and_offset_again(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """A part of a file mapped anew where it was is no change."""
    path = tmp_path / "file"
    address = new_file(target, path, 8)
    space = process.maps()
    map_at(target, address + 4 * PAGE, 2 * PAGE, path, 4 * PAGE, "PRIVATE")
    assert space.changed() == Ranges()


def test_memory_instead_of_a_file(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """Anonymous memory where a file was is a change."""
    address = new_file(target, tmp_path / "file")
    space = process.maps()
    target.run(f"map_at({address}, PAGE)")
    assert list(space.changed()) == [(address, PAGE)]


def test_a_heap_that_grows_is_the_same(target: Target, process: Process) -> None:
    """A VMA that grows has not changed; one that shrinks has lost a part."""
    target.run("grow_heap(64 * PAGE)")
    space = process.maps()
    top = target.run("grow_heap(256 * PAGE)")
    assert space.changed() == Ranges()
    later = process.maps()
    target.run("grow_heap(-16 * PAGE)")
    assert list(later.changed()) == [(top - 16 * PAGE, 16 * PAGE)]


def test_new_mappings_are_no_change(target: Target, process: Process) -> None:
    """changed() names parts of the snapshot alone."""
    space = process.maps()
    target.run("[map(PAGE) for i in range(10)]")
    assert not list(space.changed())


def test_an_unlinked_file_has_another_path(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """A file that was unlinked since has another path, and so is a change."""
    address = new_file(target, tmp_path / "file")
    space = process.maps()
    (tmp_path / "file").unlink()
    assert list(space.changed()) == [(address, 4 * PAGE)]


def test_snapshots_do_not_change(target: Target, process: Process) -> None:
    """A snapshot stays what it was, whatever the target does, and when it ends."""
    space = process.maps()
    before = list(space)
    target.run("[map(PAGE) for i in range(10)]")
    target.kill()
    assert (list(space), space.stale) == (before, True)
    assert space.changed() == space.select()
