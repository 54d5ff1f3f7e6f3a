"""The daemon's metrics: true as long as what they tell lasts, and no longer."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.daemon import FULL, FakeCgroup, started
from helpers.daemon_loop import looking
from helpers.privileges import CAP_SYS_PTRACE, never_gain
from helpers.targets import MIB, Target
from helpers.waiting import until
from options import load
from pressured import Daemon
from prometheus_client import REGISTRY

import pmadvise

ROOM = {"memory_current": 10 * MIB, "memory_max": 100 * MIB}


@pytest.fixture
def group(target: Target, tmp_path: Path) -> FakeCgroup:
    return FakeCgroup(tmp_path / "group", target.pid, **ROOM)


@pytest.fixture
def daemon(group: FakeCgroup) -> Iterator[Daemon]:
    """The loop, which looks when a test says so."""
    with looking(group.path, "--swap-floor", 4096) as loop:
        yield loop.daemon


def shown(name: str, **labels: str) -> float | None:
    """Return a metric, None without it."""
    return REGISTRY.get_sample_value(f"pressured_{name}", labels)


def test_a_refusal_lasts(daemon: Daemon, target: Target) -> None:
    """Who refused counts until it is asked again, even if nobody asks."""
    daemon.tick(False, 0.0)
    assert shown("refusing_processes") == 0
    (one,) = daemon.groups[0].known.values()
    assert one.refused_by("EPERM", 0.0)
    for now in (10.0, 10_000.0):
        daemon.tick(False, now)
        assert shown("refusing_processes") == 1
    one.paged_out(0, 10_001.0)
    daemon.tick(False, 10_010.0)
    assert shown("refusing_processes") == 0


def test_the_swap_is_shown(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The swap that is free is shown at each look, even if no cgroup is full."""
    daemon.tick(False, 0.0)
    assert shown("swap_floor_bytes") == 4096
    assert shown("swap_free_bytes") != 12345
    space = pmadvise.Swap(total=1 << 20, free=12345, frees_at_once=False)
    monkeypatch.setattr("relief.swap", lambda: space)
    daemon.tick(False, 10.0)
    assert shown("swap_free_bytes") == 12345


def test_a_cgroup_that_has_gone(daemon: Daemon, group: FakeCgroup) -> None:
    """It has no ratio and no processes any more."""
    path = os.fsdecode(group.path)
    daemon.tick(False, 0.0)
    assert (shown("watermark_ratio", cgroup=path), shown("listed_processes")) == (
        0.1,
        1,
    )
    shutil.rmtree(path)
    for now in (10.0, 20.0):
        daemon.tick(False, now)
    assert shown("watermark_ratio", cgroup=path) is None
    assert (shown("listed_processes"), shown("processes")) == (0, 0)


def test_a_cgroup_that_is_no_longer_given(daemon: Daemon, group: FakeCgroup) -> None:
    """It has no ratio after a reload."""
    other = FakeCgroup(group.path.with_name("other"), **ROOM)
    daemon.tick(False, 0.0)
    daemon.use(load(["--cgroup", str(other.path)]))
    daemon.tick(False, 10.0)
    assert shown("watermark_ratio", cgroup=str(group.path)) is None
    assert shown("watermark_ratio", cgroup=str(other.path)) == 0.1


@pytest.mark.slow
@pytest.mark.needs_root
@pytest.mark.needs_swap
def test_a_refusal_is_shown(group: FakeCgroup, target: Target, tmp_path: Path) -> None:
    """Who refuses for real, for want of CAP_SYS_PTRACE, is counted."""
    target.filled(8 * MIB)
    group.write(**FULL)
    without = functools.partial(never_gain, CAP_SYS_PTRACE)
    with started(group.path, tmp_path, preexec_fn=without) as running:
        until(lambda: running.metric("pressured_refusing_processes") == 1, "a refusal")
        assert running.values("pressured_refusals_total{")
