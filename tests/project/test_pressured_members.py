"""Who is in a cgroup, for docs/examples/pressured: without a real process."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import members
import pytest
from helpers.cgroups import nested_cgroups
from helpers.daemon import EMPTY, FakeCgroup, Scripted
from members import Members


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Processes that can be opened, by their IDs alone; other IDs are of nobody."""
    there: set[int] = set()

    class Fake(Scripted):
        """A process that sleeps."""

        def __init__(self, pid: int) -> None:
            if pid not in there:
                raise ProcessLookupError
            super().__init__(EMPTY)
            self.pid = pid

        def close(self) -> None:
            """Be closed."""

    monkeypatch.setattr(members, "Process", Fake)
    return there


def watched(group: Members, now: float = 0.0) -> dict[int, str]:
    group.refresh(now)
    return {pid: one.cgroup for pid, one in group.known.items()}


def test_members(tmp_path: Path, crowd: set[int]) -> None:
    """Processes of the cgroups below count, each with its own directory."""
    top, below = FakeCgroup(tmp_path / "a", 7, 11), FakeCgroup(tmp_path / "a/b", 13, 17)
    crowd |= {7, 11, 13}
    group = Members(str(top.path))
    a, b = str(top.path), str(below.path)
    assert watched(group) == {7: a, 11: a, 13: b}
    assert (group.n_listed, group.hidden) == (4, "")
    top.members(7)
    below.members(13, 11, 19)
    crowd.add(19)
    assert watched(group, 60.0) == {7: a, 11: b, 13: b, 19: b}
    group.known[7].gone = True
    top.members()
    assert watched(group, 120.0) == {11: b, 13: b, 19: b}
    below.members(11)
    assert watched(group, 180.0) == {11: b}


def test_members_that_are_hidden(tmp_path: Path, crowd: set[int]) -> None:
    """Who is of another pid namespace, or too many, is told of."""
    crowd |= {7, 11, 13}
    top = FakeCgroup(tmp_path / "a", 7, 0, 0)
    group = Members(str(top.path))
    assert (list(watched(group)), group.n_listed) == ([7], 3)
    assert "pid namespace" in group.hidden
    group.most = 2
    top.members(7, 11, 13)
    assert list(watched(group, 60.0)) == [7, 11]
    assert "more than 2" in group.hidden
    top.members(13)
    assert list(watched(group, 120.0)) == [13]
    assert group.hidden == ""


def test_no_descriptor(
    tmp_path: Path, crowd: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is an error of the daemon: what is watched stays, the rest comes later."""
    crowd |= {7, 11}
    top = FakeCgroup(tmp_path / "a", 7)
    group = Members(str(top.path))
    watched(group)
    top.members(7, 11)
    real = vars(members)["Process"]

    def refuse(_: int) -> Any:
        raise OSError(errno.EMFILE, "no descriptor")

    monkeypatch.setattr(members, "Process", refuse)
    with pytest.raises(OSError, match="no descriptor"):
        group.refresh(60.0)
    assert list(group.known) == [7]
    monkeypatch.setattr(members, "Process", real)
    assert list(watched(group, 120.0)) == [7, 11]


def test_a_cgroup_that_goes_meanwhile(
    tmp_path: Path, crowd: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was opened there is closed again, and that is no error."""
    crowd |= {7, 13}
    top = FakeCgroup(tmp_path / "a", 7)
    below = FakeCgroup(tmp_path / "a/b", 13)
    group, real = Members(str(top.path)), vars(members)["Process"]

    def remove_and_open(pid: int) -> Any:
        if pid == 13:
            (below.path / "cgroup.procs").unlink()
        return real(pid)

    monkeypatch.setattr(members, "Process", remove_and_open)
    assert list(watched(group)) == [7]
    assert group.hidden == ""


def test_members_at_any_depth(tmp_path: Path, crowd: set[int]) -> None:
    """The depth of cgroups, which their owner decides, is no limit but is told."""
    crowd.add(7)
    top = FakeCgroup(tmp_path / "a")
    with nested_cgroups(top.path, b"a" * 200, 100) as innermost:
        procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CREAT, dir_fd=innermost)
        os.write(procs, b"7\n")
        os.close(procs)
        group = Members(str(top.path))
        assert watched(group) == {}
        os.unlink("cgroup.procs", dir_fd=innermost)
    assert "File name too long" in group.hidden


def test_too_many_cgroups(
    tmp_path: Path, crowd: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk ends in time, is told of, and closes nobody that it did not see."""
    crowd |= {7, 13}
    top = FakeCgroup(tmp_path / "a", 7)
    below = FakeCgroup(tmp_path / "a/b", 13)
    group = Members(str(top.path))
    watched(group)
    monkeypatch.setattr(members, "WALK", -1.0)
    below.members()
    assert len(watched(group, 60.0)) == 2
    assert "too many" in group.hidden
