"""Where cgroups are to be found, from texts of /proc; needs no kernel feature."""

from __future__ import annotations

import os

import pytest
from helpers.fake_files import give_files

from pmadvise._proc.cgroups import (
    Hierarchy,
    Membership,
    directories,
    hierarchies,
    hierarchies_of,
    memory_path,
)

V2 = Hierarchy(2, (), b"/two", b"/", os.makedev(0, 2))
FREEZER = Hierarchy(1, (b"rw", b"freezer"), b"/one", b"/", os.makedev(0, 1))
CPU = Hierarchy(1, (b"rw", b"cpu"), b"/cpu", b"/")


@pytest.mark.parametrize(
    ("mount", "root", "path", "directory"),
    [
        (b"/m", b"/", b"/", b"/m"),
        (b"/m", b"/", b"/a", b"/m/a"),
        (b"/m", b"/", b"/a/", b"/m/a"),
        (b"/m", b"/a", b"/a", b"/m"),
        (b"/m", b"/a", b"/a/b", b"/m/b"),
        (b"/m", b"/a", b"/ab", None),
        (b"/m", b"/a", b"/", None),
        (b"/m", b"/", b"/..", None),
        (b"/m", b"/", b"/../a", None),
        (b"/m", b"/", b"/..a", b"/m/..a"),
        (b"/", b"/", b"/", b"/"),
        (b"/", b"/", b"/a", b"/a"),
        (b"/m\r", b"/", b"/a", b"/m\r/a"),
        (b"/X", b"/", b"/", b"/X"),
        (b"/m", b"/", b"/X", b"/m/X"),
        (b"/m", b"/", b"X", None),
        (b"/m", b"/", b"", None),
        (b"/m", b"/..", b"/../a", b"/m/a"),
        (b"/m", b"/../..", b"/../../a/b", b"/m/a/b"),
        (b"/m", b"/../..", b"/../a", None),
        (b"/m", b"/../a", b"/../a/b", b"/m/b"),
        (b"/m", b"/..", b"/../../a", None),
        (b"/m", b"/..", b"/", None),
    ],
)
def test_directory(
    mount: bytes, root: bytes, path: bytes, directory: bytes | None
) -> None:
    """A cgroup is below the mount point, unless it lies outside of what is mounted."""
    assert Hierarchy(2, (), mount, root).directory_of(path) == directory


@pytest.mark.parametrize(
    ("root", "path", "depth", "below"),
    [
        (b"/..", b"/", 1, []),
        (b"/..", b"/x", 1, [b"x"]),
        (b"/../..", b"/../a", 1, [b"a"]),
        (b"/../..", b"/x/y", 2, [b"x", b"y"]),
        (b"/../../x", b"/../a", 0, [b"a"]),
        (b"/../../../x", b"/../a", 1, [b"a"]),
        (b"/a", b"/b", -1, [b"b"]),
        (b"/", b"/../a", -1, [b"a"]),
    ],
)
def test_levels_without_a_name(
    root: bytes, path: bytes, depth: int, below: list[bytes]
) -> None:
    """Levels that only another cgroup namespace can name are counted."""
    assert Hierarchy(2, (), b"/m", root).unnamed_of(path) == (depth, below)


def test_hierarchies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mounted hierarchies are those of both versions, v2 first, and no others."""
    text = (
        b"30 1 0:1 / /one rw - cgroup none rw,freezer\n"
        b"31 1 0:2 / /two rw - cgroup2 none rw,nsdelegate\n"
        b"32 1 0:3 / /three rw - cgroup3 none rw\n"
    )
    give_files(monkeypatch, {"/proc/self/mountinfo": text})
    assert hierarchies() == [V2, FREEZER]


@pytest.mark.parametrize(
    ("membership", "found"),
    [
        (Membership(2, (), b"/"), [V2]),
        (Membership(1, (b"freezer",), b"/"), [FREEZER]),
        (Membership(1, (b"memory",), b"/"), []),
    ],
)
def test_hierarchies_of(membership: Membership, found: list[Hierarchy]) -> None:
    """A cgroup is in the hierarchy of its version and, for v1, of its controllers."""
    assert hierarchies_of(membership, [V2, CPU, FREEZER]) == found


def test_directories() -> None:
    """A cgroup is found by each mount that shows it, of those that were read."""
    outside = V2._replace(root=b"/b")
    again = V2._replace(mount=b"/again")
    mounted = [V2, outside, again, FREEZER]
    assert list(directories(Membership(2, (), b"/a"), os.getpid(), mounted)) == [
        b"/two/a",
        b"/again/a",
    ]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"0::/a\n", b"/a"),
        (b"5:cpu,memory:/m\n0::/a\n", b"/m"),
        (b"5:cpu:/c\n0::/a:b\n", b"/a:b"),
        (b"5:cpu:/c\n", None),
        (b"", None),
    ],
)
def test_memory_path(text: bytes, path: bytes | None) -> None:
    """The hierarchy with the memory controller decides, else that of version 2."""
    assert memory_path(text) == path
