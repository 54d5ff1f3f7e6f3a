"""Walks through trees of cgroups, whose shape their owner decides."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from helpers.cgroups import nested_cgroups, write_in
from helpers.children import value_of_child
from helpers.hold_targets import cgroup_of
from helpers.privileges import NOBODY, become_nobody
from helpers.targets import Target

from pmadvise import processes
from pmadvise._proc.cgroup_tree import CgroupWalk

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2]

FEW = 64  # file descriptors


@pytest.fixture
def top() -> Iterator[Path]:
    """A cgroup of the test's own."""
    with cgroup_of(2) as cgroup:
        yield cgroup.path


def names_of(
    walk: CgroupWalk, then: Mapping[bytes, object] | None = None
) -> set[bytes]:
    """Return the paths that a walk reaches; call what `then` has for one."""
    reached = set()
    for _ in walk:
        path = b"/".join(walk.path)
        reached.add(path)
        act = (then or {}).get(path)
        if callable(act):
            act()
    return reached


def open_directory(path: Path) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def pids_with_few_descriptors(path: Path) -> list[int]:
    def listed() -> list[int]:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
        return [process.pid for process in processes(cgroup=path)]

    pids: list[int] = value_of_child(listed)
    return pids


@pytest.mark.parametrize("length", [1, 100])
def test_deep(top: Path, target: Target, length: int) -> None:
    """1,100 cgroups in each other are walked with 64 descriptors, by any path."""
    with nested_cgroups(top, b"d" * length, 1100) as innermost:
        write_in(innermost, "cgroup.procs", str(target.pid))
        try:
            assert pids_with_few_descriptors(top) == [target.pid]
        finally:
            (top.parent / "cgroup.procs").write_text(str(target.pid))


@pytest.mark.slow
def test_wide(top: Path, target: Target) -> None:
    """10,000 cgroups side by side are walked with 64 descriptors."""
    try:
        for number in range(10_000):
            (top / f"{number}").mkdir()
        (top / "7777" / "cgroup.procs").write_text(str(target.pid))
        assert pids_with_few_descriptors(top) == [target.pid]
    finally:
        (top.parent / "cgroup.procs").write_text(str(target.pid))
        for directory in top.iterdir():
            if directory.is_dir():
                directory.rmdir()


@pytest.fixture
def tree(top: Path) -> Iterator[Path]:
    """A cgroup with a/b/c, a/d and e below it."""
    directories = [top / path for path in ("a", "a/b", "a/b/c", "a/d", "e")]
    for directory in directories:
        directory.mkdir()
    yield top
    for directory in reversed(directories):
        if directory.exists():
            directory.rmdir()


ALL = {b"", b"a", b"a/b", b"a/b/c", b"a/d", b"e"}


def test_each_once(tree: Path) -> None:
    """Each cgroup is reached, and each once."""
    fd = open_directory(tree)
    reached = [b"/".join(walk.path) for walk in [CgroupWalk(fd)] for _ in walk]
    os.close(fd)
    assert sorted(reached) == sorted(ALL)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_depth(tree: Path, depth: int) -> None:
    """A walk may end at a depth."""
    fd = open_directory(tree)
    reached = names_of(CgroupWalk(fd, depth=depth))
    os.close(fd)
    assert reached == {
        name for name in ALL if len([*filter(None, name.split(b"/"))]) <= depth
    }


@pytest.mark.parametrize("removed", [["a/b/c"], ["a/b/c", "a/b"]])
def test_removed_under_the_walk(tree: Path, removed: list[str]) -> None:
    """A cgroup that is removed under the walk is no error, and hides nobody."""

    def remove() -> None:
        for path in removed:
            (tree / path).rmdir()

    fd = open_directory(tree)
    walk = CgroupWalk(fd)
    reached = names_of(walk, {b"a/b/c": remove})
    os.close(fd)
    assert (reached, walk.left_out) == (ALL, "")


def test_no_time(tree: Path) -> None:
    """A walk ends when its time is up, and says so."""
    fd = open_directory(tree)
    walk = CgroupWalk(fd, seconds=-1)
    reached = names_of(walk)
    os.close(fd)
    assert (reached, "too many" in walk.left_out) == ({b""}, True)


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444])
def test_closed_by_its_owner(tree: Path, mode: int) -> None:
    """What may not be opened is left out and told; the rest is reached."""

    def walked() -> tuple[set[bytes], str]:
        become_nobody()
        fd = open_directory(tree)
        walk = CgroupWalk(fd)
        return names_of(walk), walk.left_out

    (tree / "a/b").chmod(mode)
    reached, left_out = value_of_child(walked)
    assert reached == ALL - {b"a/b/c"}
    assert "Permission denied" in left_out


def test_closed_while_the_walk_is_in_it(tree: Path) -> None:
    """The way up does not depend on the owner of the cgroup below."""
    os.chown(tree / "a/b", NOBODY, NOBODY)

    def walked() -> tuple[set[bytes], str]:
        become_nobody()
        fd = open_directory(tree)
        walk = CgroupWalk(fd)
        close = {b"a/b": lambda: (tree / "a/b").chmod(0)}
        return names_of(walk, close), walk.left_out

    reached, left_out = value_of_child(walked)
    assert reached == ALL - {b"a/b/c"}
    assert "Permission denied" in left_out


def test_what_is_left_out_is_told(
    tree: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """processes() gives those found, and then warns of what it could not list."""
    (tree / "cgroup.procs").write_text(str(target.pid))
    walk = CgroupWalk
    monkeypatch.setattr("pmadvise._members.CgroupWalk", lambda fd: walk(fd, -1))
    found: list[int] = []
    with pytest.warns(RuntimeWarning, match="left out: of the cgroups below it there"):
        found.extend(process.pid for process in processes(cgroup=tree))
    assert found == [target.pid]
    (tree.parent / "cgroup.procs").write_text(str(target.pid))


def test_many_in_a_cgroup(top: Path) -> None:
    """Of more processes than one look proves all are found, once each."""
    targets = [Target() for _ in range(19)]
    try:
        for target in targets:
            (top / "cgroup.procs").write_text(str(target.pid))
        found = [process.pid for process in processes(cgroup=top)]
    finally:
        for target in targets:
            target.close()
    assert sorted(found) == sorted(target.pid for target in targets)


def test_threaded(top: Path, target: Target) -> None:
    """A threaded cgroup lists no processes: the error has its name and a remedy."""
    below = top / "below"
    below.mkdir()
    try:
        (below / "cgroup.type").write_text("threaded")
        with pytest.raises(OSError, match=r"below' is threaded.*give the next cgroup"):
            processes(cgroup=below)
    finally:
        below.rmdir()


@pytest.mark.parametrize(
    ("cgroup", "error"),
    [
        ("", ValueError),
        ("a\0b", ValueError),
        ("acct", FileNotFoundError),
        ("/../..", FileNotFoundError),
        ("/" + "x" * 5000, FileNotFoundError),
        ("/proc", FileNotFoundError),
        ("/proc/self/status", FileNotFoundError),
    ],
)
def test_no_cgroup(cgroup: str, error: type[Exception]) -> None:
    """What names no cgroup is an error with the value."""
    with pytest.raises(error) as caught:
        processes(cgroup=cgroup)
    assert repr(cgroup) in str(caught.value)


def test_not_a_cgroup(tmp_path: Path) -> None:
    """A directory that only looks like a cgroup is none."""
    (tmp_path / "cgroup.procs").write_text("1\n")
    with pytest.raises(FileNotFoundError, match="there is no cgroup"):
        processes(cgroup=tmp_path)


def test_relative(top: Path, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory may be relative."""
    (top / "cgroup.procs").write_text(str(target.pid))
    monkeypatch.chdir(top.parent)
    assert [one.pid for one in processes(cgroup=top.name)] == [target.pid]


def test_empty(top: Path) -> None:
    """An empty cgroup has nobody, and there is nothing to tell."""
    assert list(processes(cgroup=top)) == []
