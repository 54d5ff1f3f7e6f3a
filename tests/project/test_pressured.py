"""The daemon of docs/examples/pressured at work, on real processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import daemon, privileges
from helpers.cgroups import Cgroup, memory_cgroup
from helpers.daemon import Daemon, Idle, started
from helpers.targets import MIB, Target
from helpers.waiting import until

LIMIT, IDLE = 512 * MIB, 64 * MIB
WATERMARKS = ("--high", 10, "--low", 5)

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_swap]


@pytest.fixture
def group() -> Iterator[Cgroup]:
    with memory_cgroup(LIMIT, swap=True) as cgroup:
        yield cgroup


@pytest.fixture
def idle(group: Cgroup) -> Iterator[Idle]:
    target = Idle(IDLE, preexec_fn=group.join)
    yield target
    target.close()


@pytest.fixture
def watch(group: Cgroup, tmp_path: Path) -> Iterator[Daemon]:
    """The daemon, with watermarks that the idle process alone is above."""
    options = (*WATERMARKS, "--swap-floor", 0, "--by", "pageout")
    with started(group.path, tmp_path, *options) as running:
        yield running


def test_pages_idle_out(idle: Idle, watch: Daemon) -> None:
    """An idle process goes to swap once its cgroup is over the watermark."""
    until(lambda: idle.swapped > IDLE // 4, "the idle process is in swap")
    assert watch.event("relieved")["trigger"] == "watermark"
    assert idle.intact(idle.area, IDLE)


def test_a_whole_cgroup(group: Cgroup, idle: Idle, tmp_path: Path) -> None:
    """A cgroup that is idle as a whole gives memory as a whole."""
    if not os.path.exists(os.path.join(group.path, b"memory.reclaim")):
        pytest.skip("machine: no cgroup of version 2 has the memory controller")
    options = (*WATERMARKS, "--swap-floor", 0)
    with started(group.path, tmp_path, *options) as running:
        (whole,) = running.event("relieved")["cgroups"]
        assert (whole["cgroup"], whole["members"]) == (os.fsdecode(group.path), 1)
        assert running.metric("pressured_reclaimed_bytes_total") > IDLE // 8
        assert running.metric('pressured_advised_bytes_total{advice="PAGEOUT"}') == 0
    assert idle.swapped > MIB
    assert idle.intact(idle.area, IDLE)


def test_metrics(idle: Idle, watch: Daemon) -> None:
    """What it does can be scraped."""
    watch.event("relieved")
    advised = until(
        lambda: watch.metric('pressured_advised_bytes_total{advice="PAGEOUT"}'),
        "bytes advised",
    )
    assert advised >= watch.metric("pressured_freed_bytes_total") > IDLE // 8
    assert watch.metric("pressured_processes") == 1
    assert watch.metric("pressured_longest_call_seconds_count") >= 1


def test_below_the_watermark(group: Cgroup, idle: Idle, tmp_path: Path) -> None:
    """Where there is room the watermark pages nobody out; the host's pressure may."""
    with started(group.path, tmp_path, "--swap-floor", 0) as running:
        until(lambda: running.metric("pressured_processes"), "a look")
        [running.notification() for _ in range(4)]  # three more looks
        triggers = [line["trigger"] for line in running.events("relieved")]
    assert "watermark" not in triggers
    assert idle.swapped == 0 or triggers


def test_busy_is_left(group: Cgroup, watch: Daemon) -> None:
    """A process that works is not paged out."""
    target = Idle(IDLE, preexec_fn=group.join)
    target.run_detached("sum(0 for _ in iter(int, 1))")
    try:
        assert watch.notification() == "READY=1"
        [watch.notification() for _ in range(4)]
        assert target.swapped == 0
    finally:
        target.close()


def test_swap_floor(group: Cgroup, idle: Idle, tmp_path: Path) -> None:
    """So much swap stays free, even if that means to do nothing."""
    floor = ("--swap-floor", "99%")
    with started(group.path, tmp_path, *WATERMARKS, *floor) as running:
        name = os.fsdecode(group.path)
        short = f'{{cgroup="{name}",ended="short",trigger="watermark"}}'
        until(lambda: running.metric(f"pressured_acts_total{short}") >= 2, "two acts")
    assert idle.swapped == 0


def test_who_wakes_is_read_back(idle: Idle, watch: Daemon) -> None:
    """Who touches its memory gets it back, and is left alone for a while."""
    watch.event("relieved")
    until(lambda: idle.swapped > IDLE // 4, "the idle process is in swap")
    assert idle.intact(idle.area, 8 * MIB)  # it reads them
    woke = watch.event("woke")
    assert (woke["pid"], woke["back"] >= MIB) == (idle.pid, True)
    before = len(watch.events("relieved"))
    assert watch.metric("pressured_refaulted_bytes_total") >= MIB
    until(lambda: watch.metric("pressured_backoffs") == 1, "it is left alone")
    assert len(watch.events("relieved")) <= before + 1
    assert idle.intact(idle.area, IDLE)


def test_systemd_is_told(watch: Daemon) -> None:
    """It reports when it is ready, that it lives, and that it ends."""
    heard = [watch.notification() for _ in range(3)]
    assert heard == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    assert watch.terminate() == 0
    until(lambda: watch.notification() == "STOPPING=1", "STOPPING=1")
    assert watch.lines[-1]["event"] == "stopped"


def test_heartbeat(watch: Daemon) -> None:
    """Its lock file is touched at each look: a probe of Kubernetes reads that."""
    before = watch.lock.stat().st_mtime_ns
    until(lambda: watch.lock.stat().st_mtime_ns > before, "a heartbeat")


def test_one_instance(group: Cgroup, watch: Daemon) -> None:
    """A second one is refused, in one line."""
    path = os.fsdecode(group.path)
    done = daemon.run("--cgroup", path, "--lock", watch.lock)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "another one runs" in done.stderr


@pytest.mark.parametrize("cgroup", ["/sys/fs/cgroup/no-such", "/etc"])
def test_no_such_cgroup(cgroup: str, tmp_path: Path) -> None:
    """A directory that is no cgroup's is named, in one line."""
    done = daemon.run("--cgroup", cgroup, "--lock", tmp_path / "lock")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert cgroup in done.stderr


def test_without_rights(group: Cgroup, tmp_path: Path) -> None:
    """Without the right to advise others it ends at once, and names the remedy."""
    done = daemon.run(
        *("--cgroup", os.fsdecode(group.path), "--lock", tmp_path / "lock"),
        preexec_fn=lambda: privileges.never_gain(privileges.CAP_SYS_NICE),
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "CAP_SYS_NICE" in done.stderr


def test_comings_and_goings(group: Cgroup, watch: Daemon) -> None:
    """Processes that end leave no descriptor behind, nor an error."""
    before = watch.n_descriptors()
    targets = [Target(preexec_fn=group.join) for _ in range(5)]
    until(lambda: watch.metric("pressured_processes") == 5, "five are seen")
    assert watch.n_descriptors() > before
    for target in targets:
        target.close()
    until(lambda: watch.metric("pressured_processes") == 0, "they have gone")
    until(lambda: watch.n_descriptors() == before, "their descriptors are closed")
    assert watch.events("error") == []


def test_cgroup_removed(tmp_path: Path) -> None:
    """A cgroup that goes is reported once; the daemon goes on."""
    with memory_cgroup(LIMIT, swap=True) as cgroup:
        running = Daemon(cgroup.path, tmp_path)
    try:
        assert os.fsdecode(cgroup.path) in running.event("error")["message"]
        until(lambda: running.notification() == "WATCHDOG=1", "it goes on")
        assert len(running.events("error")) == 1
        assert running.terminate() == 0
    finally:
        running.close()
