"""The parts of docs/examples/pressured that decide, without a real process."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cgroup
import policy
import pytest
from cgroup import Cgroup
from helpers.targets import MIB, Target
from policy import BACKOFF, BACKOFF_MAX, BUSY, SMALL, Candidate

from pmadvise import Process, Status

EMPTY = Status("x", 0, 1, "S", 1, 0, 0, 0, 0, 0, 0, 0.0, 0, 0.0)


class Scripted:
    """Stands for a Process that is asleep: its next status is given."""

    def __init__(self, status: Status | None) -> None:
        self.next = status

    def status(self) -> Status:
        """Return the status; None stands for a process that has gone."""
        if self.next is None:
            raise ProcessLookupError
        return self.next


def candidate(**fields: Any) -> tuple[Candidate, Scripted]:
    status = replace(EMPTY, anonymous=64 * MIB, **fields)
    process: Any = Scripted(status)
    return Candidate(process, "/a", status, looked=0.0), process


def ranked(cpu: float, mib: int = 64) -> Candidate:
    one, _ = candidate()
    one.cpu, one.status = cpu, replace(EMPTY, anonymous=mib * MIB)
    return one


def test_least_cpu_time_first() -> None:
    """Who worked least goes first; of two that slept, the larger one."""
    small, large, awake = ranked(0.0, 8), ranked(0.0, 80), ranked(0.01)
    assert policy.rank([awake, small, large], 0.0) == [large, small, awake]


def test_who_is_never_ranked() -> None:
    """The busy, the new, the small and those left alone are not paged out."""
    alone = ranked(0.0)
    alone.until = 10.0
    others = [ranked(BUSY), ranked(math.inf), ranked(0.0, (SMALL >> 20) - 1)]
    assert policy.rank([alone, *others], 9.0) == []
    assert policy.rank([alone, *others], 10.0) == [alone]


def test_cpu_time_lately() -> None:
    """The share of a CPU is that of the last seconds; old work is soon forgotten."""
    one, process = candidate(cpu=100.0)
    assert one.look(2.0) == 0
    assert one.cpu == 0.0
    process.next = replace(one.status, cpu=102.0)
    one.look(4.0)
    assert 0.5 < one.cpu <= 1.0
    for now in range(6, 20, 2):
        one.look(float(now))
    assert one.cpu < BUSY


def test_bytes_that_came_back() -> None:
    """What left swap since the process was paged out came back; an exit does not."""
    one, process = candidate(swap=0)
    one.paged_out(32 * MIB, 1.0)
    process.next = replace(one.status, swap=20 * MIB)
    assert (one.look(2.0), one.swap) == (12 * MIB, 0)
    assert one.until == 2.0 + BACKOFF
    one.paged_out(32 * MIB, 2.5)
    process.next = replace(one.status, state="Z", swap=0)
    assert (one.look(3.0), one.gone) == (0, False)
    process.next = None
    assert (one.look(4.0), one.gone) == (0, True)


def test_backoff_grows() -> None:
    """Who wakes is left alone, twice as long each time, and not for ever."""
    one, _ = candidate()
    waits, now = [], 0.0
    for _ in range(8):
        one.paged_out(32 * MIB, now)
        one.leave_alone(now)
        waits.append(one.until - now)
        now = one.until
    assert waits[:3] == [BACKOFF, 2 * BACKOFF, 4 * BACKOFF]
    assert waits[-1] == BACKOFF_MAX
    now += 5 * BACKOFF_MAX
    one.paged_out(32 * MIB, now)
    one.leave_alone(now)
    assert one.until - now == BACKOFF


class FakeCgroup:
    """A directory with the files of a cgroup."""

    def __init__(self, path: Path, **files: object) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self.write(cgroup_procs="", **files)

    def write(self, **files: object) -> None:
        """Write files; _ stands for the first dot."""
        for name, value in files.items():
            (self.path / name.replace("_", ".", 1)).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory_current": 5 * MIB, "memory_max": 9 * MIB}, (5 * MIB, 9 * MIB)),
        (
            {"memory_current": MIB, "memory_max": "max", "memory_high": 3 * MIB},
            (MIB, 3 * MIB),
        ),
        (
            {"memory_usage_in_bytes": MIB, "memory_limit_in_bytes": 2 * MIB},
            (MIB, 2 * MIB),
        ),
        ({"memory_current": MIB, "memory_max": "max"}, None),
        ({"memory_usage_in_bytes": 1, "memory_limit_in_bytes": 1 << 62}, None),
        ({}, None),
    ],
)
def test_fill(
    tmp_path: Path, files: dict[str, object], expected: tuple[int, int] | None
) -> None:
    """The lowest limit counts, of either version; without one that of the host."""
    FakeCgroup(tmp_path, **files)
    used, limit = Cgroup(str(tmp_path)).fill()
    if expected is None:
        assert limit == cgroup.host()[1]
        assert 0 < used < limit
    else:
        assert (used, limit) == expected


def test_fill_of_a_removed_cgroup(tmp_path: Path) -> None:
    """A cgroup that has gone is an error, and not an empty one."""
    fake = FakeCgroup(tmp_path / "a", memory_current=1, memory_max=2)
    group = Cgroup(str(fake.path))
    for file in fake.path.iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match=str(fake.path)):
        group.fill()


def test_unprotected(tmp_path: Path) -> None:
    """memory.min and memory.low of a cgroup and of those above it are honoured."""
    FakeCgroup(tmp_path / "a", memory_current=90, memory_min=0, memory_low=0)
    parent = FakeCgroup(
        tmp_path / "a/b", memory_current=80, memory_min=10, memory_low=0
    )
    leaf = FakeCgroup(tmp_path / "a/b/c", memory_current=50, memory_low=0)
    assert cgroup.unprotected(str(leaf.path)) == 70
    leaf.write(memory_low=30, memory_min=20)
    assert cgroup.unprotected(str(leaf.path)) == 20
    parent.write(memory_min=75)
    assert cgroup.unprotected(str(leaf.path)) == 5
    parent.write(memory_low="max")
    assert cgroup.unprotected(str(leaf.path)) < 0
    assert cgroup.unprotected(str(tmp_path / "a")) == math.inf


def test_members(tmp_path: Path) -> None:
    """Processes of the cgroups below count, each with its own directory."""
    FakeCgroup(tmp_path / "a")
    FakeCgroup(tmp_path / "a/b")
    (tmp_path / "a/cgroup.procs").write_text("7\n11\n")
    (tmp_path / "a/b/cgroup.procs").write_text("13\n")
    found = cgroup.members(str(tmp_path / "a"))
    parent = str(tmp_path / "a")
    assert found == {7: parent, 11: parent, 13: f"{parent}/b"}


def test_members_at_any_depth(tmp_path: Path) -> None:
    """The depth of cgroups, which their owner decides, is no limit."""
    directories = [tmp_path / "a"]
    directories += [Path(f"{tmp_path}/a" + "/a" * depth) for depth in range(1, 1500)]
    for directory in directories:
        directory.mkdir()
    (directories[-1] / "cgroup.procs").write_text("7\n")
    found = cgroup.members(str(tmp_path / "a"))
    (directories[-1] / "cgroup.procs").unlink()
    for directory in reversed(directories):
        directory.rmdir()
    assert found == {7: str(directories[-1])}


@pytest.mark.needs_root
def test_another_program(target: Target, process: Process) -> None:
    """A process that executed another program is new, and can be advised again."""
    one = Candidate(process, "", process.status(), 0.0, cpu=0.0, swap=MIB)
    target.exec_again()
    assert process.cold().ended == "exec"
    one.begin_anew()
    assert (one.cpu, one.swap) == (math.inf, 0)
    assert process.cold().ended == "complete"
