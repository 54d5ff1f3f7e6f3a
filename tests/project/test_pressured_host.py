"""The daemon of docs/examples/pressured on hosts that make it hard for it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import daemon, proc
from helpers.cgroups import memory_cgroup, temporary_cgroup
from helpers.daemon import Daemon, FakeCgroup, started
from helpers.needs import cgroup_mount
from helpers.privileges import NOBODY
from helpers.targets import MIB, Target
from helpers.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_swap]

IDLE = 32 * MIB
FULL = {"memory_current": 95 * MIB, "memory_max": 100 * MIB}
NO_FLOOR = ("--swap-floor", 0)


class Idle(Target):
    """A process that sleeps, with memory."""

    def __init__(self, **popen: Any) -> None:
        super().__init__(**popen)
        self.area = self.filled(IDLE)

    @property
    def swapped(self) -> int:
        """Its bytes in swap."""
        return self.status("VmSwap")


@pytest.fixture
def idle() -> Iterator[Idle]:
    target = Idle()
    yield target
    target.close()


@pytest.fixture
def full(idle: Idle, tmp_path: Path) -> FakeCgroup:
    """A cgroup that stays full, with the idle process in it."""
    return FakeCgroup(tmp_path / "group", idle.pid, **FULL)


def is_out(target: Idle) -> None:
    until(lambda: target.swapped > 4 * MIB, "the idle process is in swap")


def goes_on(running: Daemon) -> None:
    """It looks, can be asked, and ends when told to."""
    while not running.heard.empty():
        running.notification()
    until(lambda: running.notification() == "WATCHDOG=1", "another look")
    assert running.metric("pressured_last_look_timestamp_seconds") > 0
    assert running.terminate() == 0


def test_who_where_and_how_much(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """A line has the cgroup, and each process with what left its memory."""
    with started(full.path, tmp_path, *NO_FLOOR) as running:
        line = running.event("relieved")
        goes_on(running)
    assert (line["cgroup"], line["limit_of"]) == (str(full.path), str(full.path))
    (one,) = line["processes"]
    assert (one["pid"], one["cgroup"]) == (idle.pid, str(full.path))
    assert one["name"].startswith("python")
    assert line["freed"] == one["freed"] > 4 * MIB
    assert line["advised"] >= line["freed"]
    assert 10 * MIB < line["advised"] <= 16 * MIB  # from 95 % to 80 % of 100 MiB


def test_it_recovers(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """It tells once that a cgroup has room again."""
    with started(full.path, tmp_path, *NO_FLOOR) as running:
        running.event("relieved")
        full.write(memory_current=20 * MIB)
        assert running.event("recovered")["ratio"] == 0.2
        goes_on(running)
    assert len(running.events("recovered")) == 1


def test_the_limit_of_an_ancestor(idle: Idle, tmp_path: Path) -> None:
    """A cgroup without a limit, or with room, is relieved if one above is full."""
    FakeCgroup(tmp_path / "a", **FULL)
    FakeCgroup(tmp_path / "a/b", memory_current=50 * MIB, memory_max="max")
    inner = FakeCgroup(
        tmp_path / "a/b/c", idle.pid, memory_current=25 * MIB, memory_max=100 * MIB
    )
    with started(inner.path, tmp_path, *NO_FLOOR) as running:
        assert running.event("relieved")["limit_of"] == str(tmp_path / "a")
        ratio = f'pressured_watermark_ratio{{cgroup="{inner.path}"}}'
        assert running.metric(ratio) == 0.95
    is_out(idle)


@pytest.mark.parametrize("name", ["memory_high", "memory_max"])
def test_a_limit_of_nothing(
    full: FakeCgroup, idle: Idle, tmp_path: Path, name: str
) -> None:
    """memory.high=0 is a limit that is passed, and ends nothing."""
    full.write(memory_current=40 * MIB, **{name: 0})
    with started(full.path, tmp_path, *NO_FLOOR) as running:
        running.event("relieved")
        goes_on(running)
        assert not running.events("error")


def told(running: Daemon) -> dict[str, int]:
    """Return the reasons why nobody was paged out, once they are settled."""

    def settled() -> dict[str, int]:
        reasons: list[dict[str, int]] = [n["reasons"] for n in running.events("nobody")]
        return reasons[-1] if reasons else {}

    return until(settled, "nobody")


@pytest.mark.parametrize("policy", ["SCHED_FIFO", "SCHED_RR"])
def test_who_is_spared(
    full: FakeCgroup, idle: Idle, tmp_path: Path, policy: str
) -> None:
    """Who is real-time is left alone, and why nobody goes is told once."""
    os.sched_setscheduler(idle.pid, getattr(os, policy), os.sched_param(1))
    with started(full.path, tmp_path, *NO_FLOOR) as running:
        assert told(running) == {"realtime": 1}
        goes_on(running)
    assert idle.swapped == 0
    assert len(running.events("nobody")) == 1


def test_a_thread_is_enough(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """A process of which one thread is real-time is left alone."""
    thread = idle.thread()
    os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))
    with started(full.path, tmp_path, *NO_FLOOR) as running:
        assert told(running) == {"realtime": 1}
    assert idle.swapped == 0


def test_excluded(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """Names and cgroups are left alone; who is not excluded is not."""
    other = Idle()
    try:
        below = FakeCgroup(full.path / "below", other.pid)
        exclude = ("--exclude", below.path, "--exclude", "pytho?*")
        with started(full.path, tmp_path, *NO_FLOOR, *exclude) as running:
            assert told(running) == {"excluded": 2}
        (tmp_path / "notify").unlink()
        assert (idle.swapped, other.swapped) == (0, 0)
        with started(
            full.path, tmp_path, *NO_FLOOR, "--exclude", below.path
        ) as running:
            is_out(idle)
        assert other.swapped == 0
    finally:
        other.close()


def test_its_ancestors_are_spared(full: FakeCgroup, tmp_path: Path) -> None:
    """Neither itself nor who started it, this test, is paged out."""
    with started(full.path, tmp_path, *NO_FLOOR) as running:
        full.members(os.getpid(), running.process.pid)
        line = until(
            lambda: [n for n in running.events("nobody") if "own" in n["reasons"]],
            "nobody",
        )[0]
    assert line["reasons"] == {"own": 2}


def test_dry_run(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """It tells what it would do, and does nothing."""
    with started(full.path, tmp_path, *NO_FLOOR, "--dry-run") as running:
        line = running.event("would_relieve")
        goes_on(running)
    assert line["processes"][0]["pid"] == idle.pid
    assert 10 * MIB < line["advised"] <= 16 * MIB
    assert (idle.swapped, running.events("relieved")) == (0, [])


def test_rate(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """No more goes to swap in a second than was said."""
    with started(full.path, tmp_path, *NO_FLOOR, "--rate", "2M") as running:
        running.event("relieved")
        began, before = time.monotonic(), idle.swapped
        until(lambda: idle.swapped > 8 * MIB, "some is in swap")
        rate = (idle.swapped - before) / (time.monotonic() - began)
    assert rate < 3 * MIB


def test_no_swap_to_use(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """A floor beyond the swap is said at the start, and why nobody goes out."""
    with started(full.path, tmp_path, "--swap-floor", "900G") as running:
        assert running.lines[0]["event"] == "swap_floor"
        assert running.lines[0]["total"] < running.lines[0]["floor"]
        assert told(running) == {"swap_floor": 1}
    assert idle.swapped == 0


_FORKED = """
import mmap, os, signal
area = mmap.mmap(-1, 88 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
for offset in range(0, 88 << 20, 4096):
    area[offset : offset + 8] = b"pmadvise"
os.fork()
print("ready", flush=True)
signal.pause()
"""


def test_memory_that_is_shared_by_fork(tmp_path: Path) -> None:
    """Work that frees nothing is done seldom, costs little, and is told once."""
    with memory_cgroup(100 * MIB, swap=True) as group:
        popen = subprocess.Popen(
            [sys.executable, "-c", _FORKED],
            preexec_fn=group.join,  # noqa: PLW1509 - no thread has begun
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert popen.stdout
            popen.stdout.readline()
            with started(group.path, tmp_path, *NO_FLOOR) as running:
                running.event("freed_nothing")
                before = proc.cpu_seconds(running.process.pid)
                acts = running.acts()
                time.sleep(10)
                used = proc.cpu_seconds(running.process.pid) - before
                assert running.acts() - acts <= 5
                assert used < 0.5
                assert len(running.events("freed_nothing")) == 1
                assert running.events("relieved") == []
        finally:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.communicate()


def limited(soft: int, hard: int) -> Any:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return limit


@contextlib.contextmanager
def sleeping_forks(n: int) -> Iterator[list[int]]:
    """Fork processes that sleep; give their IDs."""
    code = f"""
import os, signal
for _ in range({n}):
    if not (pid := os.fork()):
        signal.pause()
    print(pid, flush=True)
print("ready", flush=True)
signal.pause()
"""
    popen = subprocess.Popen(
        [sys.executable, "-Sc", code],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert popen.stdout
        yield [int(line) for line in iter(popen.stdout.readline, "ready\n")]
    finally:
        os.killpg(popen.pid, signal.SIGKILL)
        popen.communicate()


@pytest.mark.parametrize(("hard", "expected"), [(4096, 601), (1024, 480)])
def test_a_crowd(
    full: FakeCgroup, idle: Idle, tmp_path: Path, hard: int, expected: int
) -> None:
    """Six hundred sleeping forks at a limit of 1,024 do not blind it."""
    with sleeping_forks(600) as forks:
        full.members(*forks, idle.pid)
        with started(
            full.path, tmp_path, *NO_FLOOR, preexec_fn=limited(1024, hard)
        ) as running:
            until(lambda: running.metric("pressured_processes") == expected, "a crowd")
            assert running.metric("pressured_listed_processes") == 601
            assert bool(running.events("members_hidden")) == (expected < 601)
            full.members(idle.pid)
            until(lambda: running.metric("pressured_processes") == 1, "one is left")
            is_out(idle)
            assert running.events("error") == []
            assert running.metric("pressured_refusing_processes") == 0
            goes_on(running)


def test_idle_connections(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """A thousand who connect and say nothing keep nobody from the metrics."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        running = opened.enter_context(
            started(full.path, tmp_path, *NO_FLOOR, preexec_fn=limited(1024, 1024))
        )
        for _ in range(1015):
            address = ("127.0.0.1", running.port)
            opened.enter_context(socket.create_connection(address, 10))
        assert running.metric("pressured_processes") <= 1
        is_out(idle)
        assert proc.status(running.process.pid, "Threads") < 32
        assert running.events("error") == []
        goes_on(running)


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def unread_pipe() -> Iterator[int]:
    """A pipe that is full, and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def full_disk() -> Iterator[int]:
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("log", ["closed_pipe", "unread_pipe", "full_disk"])
def test_a_log_that_can_t_be_written(
    full: FakeCgroup,
    idle: Idle,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    log: str,
) -> None:
    """It neither ends nor waits, and the metrics tell how many lines were lost."""
    stdout = request.getfixturevalue(log)
    with started(full.path, tmp_path, *NO_FLOOR, stdout=stdout) as running:
        is_out(idle)
        if log != "unread_pipe":  # these lines wait
            assert running.metric("pressured_lost_lines_total") > 0
        goes_on(running)


def test_a_log_that_was_full(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """Once there is room again, it says how many lines were lost."""
    disk = tmp_path / "log"
    with (
        disk.open("wb") as file,
        started(
            full.path,
            tmp_path,
            *NO_FLOOR,
            stdout=file.fileno(),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1 << 20)),
        ) as running,
    ):
        until(lambda: running.metric("pressured_lost_lines_total") > 0, "a lost line")
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        is_out(idle)
        full.write(memory_current=MIB)
        until(lambda: b"recovered" in disk.read_bytes(), "a line")
        assert running.terminate() == 0
    lines = [line for line in disk.read_text().split("\n") if line.startswith('{"')]
    found = [json.loads(line)["event"] for line in lines if line.endswith("}")]
    assert found[0] == "lines_lost"
    assert found[-1] == "stopped"


def test_no_standard_streams(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """No file of its own gets the lines of a closed stdout."""

    def close() -> None:
        for number in range(3):
            os.close(number)

    with started(
        full.path, tmp_path, *NO_FLOOR, stdout=subprocess.DEVNULL, preexec_fn=close
    ) as running:
        is_out(idle)
        assert running.lock.read_bytes() == b""
        goes_on(running)


def test_reload(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """SIGHUP reads the file again; what is wrong changes nothing."""
    pytest.importorskip("tomllib", reason="machine: no tomllib before Python 3.11")
    config = tmp_path / "toml"
    config.write_text("high = 99\nlow = 90\nswap-floor = 0\n")
    with started(full.path, tmp_path, "--config", config) as running:
        config.write_text("high = 99\nlow = 100\n")
        running.process.send_signal(signal.SIGHUP)
        assert "--low 100" in running.event("not_reloaded")["message"]
        assert idle.swapped == 0
        config.write_text('high = 90\nswap-floor = 0\nlock = "/x"\n')
        running.process.send_signal(signal.SIGHUP)
        assert running.event("reloaded")["after_a_restart"] == []  # --lock is given
        is_out(idle)
        goes_on(running)


def test_a_hangup_without_a_file(full: FakeCgroup, tmp_path: Path) -> None:
    """A terminal that hangs up does not end it."""
    with started(full.path, tmp_path, *NO_FLOOR) as running:
        running.process.send_signal(signal.SIGHUP)
        running.event("reloaded")
        assert [running.notification() for _ in range(5)].count("READY=1") == 2
        goes_on(running)


def test_the_lock_is_its_own(full: FakeCgroup, tmp_path: Path) -> None:
    """Nobody else can take it, and what is not its file is refused."""
    path = os.fsdecode(full.path)
    with started(full.path, tmp_path, *NO_FLOOR) as running:
        assert running.lock.stat().st_mode & 0o777 == 0o600
        running.terminate()
    target = tmp_path / "target"
    link, foreign, fifo = (tmp_path / name for name in ("link", "foreign", "fifo"))
    link.symlink_to(target)
    foreign.touch()
    os.chown(foreign, NOBODY, NOBODY)
    os.mkfifo(fifo)
    for lock in (link, foreign, fifo, full.path):
        done = daemon.run("--cgroup", path, "--lock", lock)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert str(lock) in done.stderr
    assert not target.exists()


def test_a_port_in_use(full: FakeCgroup, tmp_path: Path) -> None:
    """It ends at once, with one line that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = f"127.0.0.1:{server.getsockname()[1]}"
        done = daemon.run(
            *("--cgroup", full.path, "--lock", tmp_path / "lock", "--listen", listen)
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert listen in done.stderr


@pytest.mark.parametrize("address", ["[::1]", "", "127.0.0.1", "[::]"])
def test_addresses(full: FakeCgroup, tmp_path: Path, address: str) -> None:
    """It listens where it is told to, by IPv4 and IPv6."""
    port = daemon.free_port()
    host = {"": "127.0.0.1", "[::]": "::1"}.get(address, address.strip("[]"))
    listen = ("--listen", f"{address}:{port}")
    with started(full.path, tmp_path, *listen) as running:
        with socket.create_connection((host, port), 10) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert connection.recv(15).startswith(b"HTTP/1.0 200")
        assert running.terminate() == 0


@pytest.mark.needs_cgroup2
def test_in_a_cgroup_namespace(idle: Idle, tmp_path: Path) -> None:
    """In a private one, as engines give it, it sees who is outside of that."""
    mount = cgroup_mount(2)
    assert mount
    with temporary_cgroup(mount, b"-outside") as outside:
        outside.write("cgroup.procs", str(idle.pid))
        with started(
            *(outside.path, tmp_path, *NO_FLOOR, "--high", "0.02", "--low", "0.01"),
            under=("unshare", "-C"),
        ) as running:
            is_out(idle)
            assert running.event("relieved")["limit_of"] == "host"
            assert running.events("members_hidden") == []
        idle.kill()


@pytest.mark.needs_cgroup2
@pytest.mark.needs_pid_namespace
def test_members_of_another_pid_namespace(idle: Idle, tmp_path: Path) -> None:
    """Who is listed and can't be seen is told of, once, with the remedy."""
    mount = cgroup_mount(2)
    assert mount
    with temporary_cgroup(mount, b"-outside") as outside:
        outside.write("cgroup.procs", str(idle.pid))
        with started(
            *(outside.path, tmp_path, *NO_FLOOR, "--high", "0.02", "--low", "0.01"),
            under=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        ) as running:
            line = running.event("members_hidden")
            assert "pid namespace" in line["message"]
            assert (line["listed"], line["watched"]) == (1, 0)
            time.sleep(3)
            assert len(running.events("members_hidden")) == 1
            assert running.metric("pressured_listed_processes") == 1
        idle.kill()
