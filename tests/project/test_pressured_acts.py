"""The daemon of docs/examples/pressured: who goes, who stays, and what it tells."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cgroups import temporary_cgroup
from helpers.daemon import FULL, Daemon, FakeCgroup, Idle, is_out, started
from helpers.daemon_loop import Loop, looking
from helpers.needs import cgroup_mount
from helpers.targets import MIB

NO_FLOOR = ("--swap-floor", 0)

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_swap]


def test_who_where_and_how_much(full: FakeCgroup, idle: Idle) -> None:
    """A line has the cgroup, and each process with what left its memory."""
    with looking(full.path, *NO_FLOOR) as running:
        line = running.event("relieved")
    assert (line["cgroup"], line["limit_of"]) == (str(full.path), str(full.path))
    (one,) = line["processes"]
    assert (one["pid"], one["cgroup"]) == (idle.pid, str(full.path))
    assert one["name"].startswith("python")
    assert line["freed"] == one["freed"] > 4 * MIB
    assert line["advised"] >= line["freed"]
    assert 10 * MIB < line["advised"] <= 16 * MIB  # from 95 % to 80 % of 100 MiB


def test_it_recovers(full: FakeCgroup, idle: Idle) -> None:
    """It tells once that a cgroup has room again."""
    with looking(full.path, *NO_FLOOR) as running:
        running.event("relieved")
        full.write(memory_current=20 * MIB)
        assert running.event("recovered")["ratio"] == 0.2
    assert len(running.events("recovered")) == 1


def test_the_limit_of_an_ancestor(idle: Idle, tmp_path: Path) -> None:
    """A cgroup without a limit, or with room, is relieved if one above is full."""
    FakeCgroup(tmp_path / "a", **FULL)
    FakeCgroup(tmp_path / "a/b", memory_current=50 * MIB, memory_max="max")
    inner = FakeCgroup(
        tmp_path / "a/b/c", idle.pid, memory_current=25 * MIB, memory_max=100 * MIB
    )
    with looking(inner.path, *NO_FLOOR) as running:
        assert running.event("relieved")["limit_of"] == str(tmp_path / "a")
        [group] = running.daemon.groups
        assert group.fill().ratio == 0.95
    assert idle.swapped > 4 * MIB


@pytest.mark.parametrize("name", ["memory_high", "memory_max"])
def test_a_limit_of_nothing(full: FakeCgroup, idle: Idle, name: str) -> None:
    """memory.high=0 is a limit that is passed, and ends nothing."""
    full.write(memory_current=40 * MIB, **{name: 0})
    with looking(full.path, *NO_FLOOR) as running:
        running.event("relieved")
        assert not running.events("error")


def told(running: Loop) -> dict[str, int]:
    """Return the reasons why nobody was paged out."""
    reasons: dict[str, int] = running.event("nobody")["reasons"]
    return reasons


def make_realtime(thread: int, policy: int) -> None:
    try:
        os.sched_setscheduler(thread, policy, os.sched_param(1))
    except PermissionError:  # CONFIG_RT_GROUP_SCHED, and a cgroup without a share
        pytest.skip("machine: no process may be real-time here")


@pytest.mark.parametrize("policy", ["SCHED_FIFO", "SCHED_RR"])
def test_who_is_spared(full: FakeCgroup, idle: Idle, policy: str) -> None:
    """Who is real-time is left alone, and why nobody goes is told once."""
    make_realtime(idle.pid, getattr(os, policy))
    with looking(full.path, *NO_FLOOR) as running:
        assert told(running) == {"realtime": 1}
    assert idle.swapped == 0
    assert len(running.events("nobody")) == 1


def test_a_thread_is_enough(full: FakeCgroup, idle: Idle) -> None:
    """A process of which one thread is real-time is left alone."""
    thread = idle.thread()
    make_realtime(thread, os.SCHED_FIFO)
    with looking(full.path, *NO_FLOOR) as running:
        assert told(running) == {"realtime": 1}
    assert idle.swapped == 0


def test_excluded(full: FakeCgroup, idle: Idle) -> None:
    """Names and cgroups are left alone; who is not excluded is not."""
    other = Idle()
    try:
        below = FakeCgroup(full.path / "below", other.pid)
        exclude = ("--exclude", below.path, "--exclude", "p?thon*")
        with looking(full.path, *NO_FLOOR, *exclude) as running:
            assert told(running) == {"excluded": 2}
        assert (idle.swapped, other.swapped) == (0, 0)
        with looking(full.path, *NO_FLOOR, "--exclude", below.path) as running:
            running.event("relieved")
        assert (idle.swapped > 4 * MIB, other.swapped) == (True, 0)
    finally:
        other.close()


def test_its_ancestors_are_spared(full: FakeCgroup) -> None:
    """Neither itself nor who started it, this test, is paged out."""
    with looking(full.path, *NO_FLOOR) as running:
        full.members(os.getpid(), os.getppid())
        assert told(running) == {"own": 2}


def test_dry_run(full: FakeCgroup, idle: Idle) -> None:
    """It tells what it would do, and does nothing."""
    with looking(full.path, *NO_FLOOR, "--dry-run") as running:
        line = running.event("would_relieve")
    assert line["processes"][0]["pid"] == idle.pid
    assert 10 * MIB < line["advised"] <= 16 * MIB
    assert (idle.swapped, running.events("relieved")) == (0, [])


def test_rate(full: FakeCgroup, idle: Idle) -> None:
    """No more goes to swap in a second than was said."""
    with looking(full.path, *NO_FLOOR, "--rate", "2M") as running:
        running.event("relieved")
        running.look(3)
        n_acts = len(running.events("relieved"))
    assert 3 <= n_acts <= 4
    assert 5 * MIB < idle.swapped <= n_acts * 2 * MIB


def test_no_swap_to_use(full: FakeCgroup, idle: Idle) -> None:
    """A floor beyond the swap is said at the start, and why nobody goes out."""
    with looking(full.path, "--swap-floor", "900G") as running:
        assert running.lines[0]["event"] == "swap_floor"
        assert running.lines[0]["total"] < running.lines[0]["floor"]
        assert told(running) == {"swap_floor": 1}
    assert idle.swapped == 0


@contextlib.contextmanager
def apart(idle: Idle, scratch: Path, *namespace: str) -> Iterator[Daemon]:
    """Run a daemon in a namespace of its own, the idle process in a cgroup outside."""
    mount = cgroup_mount(2)
    assert mount
    with temporary_cgroup(mount, b"-outside") as outside:
        outside.write("cgroup.procs", str(idle.pid))
        with started(
            *(outside.path, scratch, *NO_FLOOR, "--high", "0.02", "--low", "0.01"),
            under=("unshare", *namespace),
        ) as running:
            yield running
        idle.kill()


@pytest.mark.needs_cgroup2
@pytest.mark.needs_mounts
def test_in_a_cgroup_namespace(idle: Idle, tmp_path: Path) -> None:
    """In a private one, as engines give it, it sees who is outside of that."""
    with apart(idle, tmp_path, "-C") as running:
        is_out(idle)
        assert running.event("relieved")["limit_of"] == "host"
        assert running.events("members_hidden") == []


@pytest.mark.needs_cgroup2
@pytest.mark.needs_mounts
@pytest.mark.needs_pid_namespace
def test_members_of_another_pid_namespace(idle: Idle, tmp_path: Path) -> None:
    """Who is listed and can't be seen is told of, once, with the remedy."""
    pids = ("--pid", "--fork", "--kill-child", "--mount-proc")
    with apart(idle, tmp_path, *pids) as running:
        line = running.event("members_hidden")
        assert "pid namespace" in line["message"]
        assert (line["listed"], line["watched"]) == (1, 0)
        time.sleep(3)
        assert len(running.events("members_hidden")) == 1
        assert running.metric("pressured_listed_processes") == 1
