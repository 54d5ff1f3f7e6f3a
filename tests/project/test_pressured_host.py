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
from helpers.cgroups import memory_cgroup
from helpers.daemon import FakeCgroup, Idle, goes_on, is_out, started
from helpers.privileges import NOBODY
from helpers.targets import MIB
from helpers.waiting import until

NO_FLOOR = ("--swap-floor", 0)

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_swap]


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
            options = (*NO_FLOOR, "--by", "pageout")
            with started(group.path, tmp_path, *options) as running:
                running.event("freed_nothing")
                before = proc.cpu_seconds(running.process.pid)
                acts = running.acts()
                time.sleep(5)
                used = proc.cpu_seconds(running.process.pid) - before
                assert running.acts() - acts <= 4
                assert used < 0.25
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


def test_idle_connections(full: FakeCgroup, idle: Idle, tmp_path: Path) -> None:
    """A thousand who connect and say nothing keep nobody from the metrics."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = max(soft, min(hard, 4096))
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        running = opened.enter_context(
            started(full.path, tmp_path, *NO_FLOOR, preexec_fn=limited(1024, 1024))
        )
        for _ in range(min(1015, raised - 100)):
            address = ("127.0.0.1", running.port)
            opened.enter_context(socket.create_connection(address, 10))
        assert running.metric("pressured_processes") <= 1
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
        goes_on(running)
        assert running.lock.read_bytes() == b""


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
