"""Processes of every kind: living, ended, without a leader, of the kernel."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers import proc
from helpers.proc import open_files
from helpers.public_calls import reads
from helpers.targets import Target
from helpers.waiting import wait_for_state

from pmadvise import Process

root = pytest.mark.needs_root
SYS_EXIT = {"x86_64": 60, "s390x": 1, "ppc64le": 1}.get(platform.machine(), 93)


@pytest.fixture
def zombie(target: Target) -> Iterator[Process]:
    """A process that has ended and was not waited for."""
    target.popen.kill()
    wait_for_state(target.pid, "Z")
    with Process(target.pid) as handle:
        yield handle


@pytest.fixture
def leaderless(target: Target) -> Iterator[Process]:
    """A process whose leader has exited while a thread of it lives on."""
    target.thread()
    with Process(target.pid) as handle:
        target.run_detached(f"libc.syscall({SYS_EXIT}, 0)")
        wait_for_state(target.pid, "Z")
        yield handle


@pytest.fixture
def kthreadd() -> Iterator[Process]:
    """The parent of all kernel threads."""
    with Process(proc.kthreadd()) as handle:
        yield handle


def test_a_child(target: Target, process: Process) -> None:
    """A handle has the pid, a pidfd of its own, and shows that the process lives."""
    assert (process.pid, process.alive, process.wait(0)) == (target.pid, True, False)
    assert process.fileno() == process.pidfd != target.pidfd
    assert repr(process) == f"<Process {target.pid}>"


def test_files_are_close_on_exec(target: Target) -> None:
    """No file of a handle leaks into what the caller executes."""
    before = set(open_files())
    with Process(target.pid) as process:
        process.maps()
        mine = set(open_files()) - before
        leaking = [fd for fd in mine if os.path.exists(f"/proc/self/fd/{fd}")]
        assert [fd for fd in leaking if os.get_inheritable(int(fd))] == []


@pytest.mark.parametrize(
    ("pid", "error"),
    [
        ("1", TypeError),
        (1.0, TypeError),
        (None, TypeError),
        (1 << 40, ValueError),
        (0, OSError),
        (-1, OSError),
    ],
)
def test_what_is_no_pid(pid: Any, error: type[Exception]) -> None:
    """A value that is no pid is refused as pidfd_open() does, and no file is left."""
    before = open_files()
    with pytest.raises(error, match="pid"):
        Process(pid)
    assert open_files() == before


def test_a_thread_is_no_process(target: Target) -> None:
    """The ID of a thread opens no handle."""
    with pytest.raises(OSError, match="PIDFD_THREAD") as caught:
        Process(target.thread())
    assert caught.value.errno in (errno.EINVAL, errno.ENOENT)


def test_wait_for_the_end(target: Target, process: Process) -> None:
    """wait() returns True once the process has ended."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process.wait)
        target.popen.kill()
        assert waiting.result() is True


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_wait_for_the_timeout(process: Process, timeout: float) -> None:
    """wait() returns False when the time is over."""
    assert process.wait(timeout) is False


@pytest.mark.parametrize("timeout", [0, 1e9, 10**400, float("inf"), None])
def test_wait_behind_the_end(
    target: Target, process: Process, timeout: float | None
) -> None:
    """Once the process has ended, wait() returns True at once, whatever the timeout."""
    target.kill()
    assert (process.wait(timeout), process.alive) == (True, False)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)],
)
def test_wait_refuses(process: Process, timeout: Any, error: type[Exception]) -> None:
    """A value that is no time is refused."""
    with pytest.raises(error):
        process.wait(timeout)


@reads
def test_zombie(zombie: Process, read: Callable[[Process], object]) -> None:
    """A zombie has ended: it is not alive, and reading it is ProcessLookupError."""
    assert (zombie.alive, zombie.wait(0)) == (False, True)
    with pytest.raises(ProcessLookupError, match="exited"):
        read(zombie)


@reads
def test_reaped(
    target: Target, process: Process, read: Callable[[Process], object]
) -> None:
    """A process that was reaped is ProcessLookupError, the first time and again."""
    target.kill()
    assert (process.alive, process.wait()) == (False, True)
    for _ in range(2):
        with pytest.raises(ProcessLookupError, match="exited"):
            read(process)


def test_open_what_was_reaped(target: Target) -> None:
    """A pid that is not in use opens no handle, and leaves no file open."""
    target.kill()
    before = open_files()
    with pytest.raises(ProcessLookupError, match=str(target.pid)):
        Process(target.pid)
    assert open_files() == before


@root
@reads
def test_leader_that_has_exited(
    leaderless: Process, read: Callable[[Process], object]
) -> None:
    """The memory of a process whose leader exited can't be read."""
    assert (leaderless.alive, leaderless.wait(0)) == (False, False)
    with pytest.raises(ProcessLookupError, match="leader has exited"):
        read(leaderless)


@root
@reads
def test_leader_that_had_exited(
    leaderless: Process, read: Callable[[Process], object]
) -> None:
    """A handle that is opened after the leader exited is no different."""
    with Process(leaderless.pid) as later:
        assert later.alive is False
        with pytest.raises(ProcessLookupError, match="leader has exited"):
            read(later)


@root
def test_wait_for_the_last_thread(target: Target, leaderless: Process) -> None:
    """wait() for a leader that exited waits for its last thread."""
    target.popen.kill()
    assert leaderless.wait() is True


@root
@reads
def test_kernel_thread(kthreadd: Process, read: Callable[[Process], object]) -> None:
    """A kernel thread is alive and has no memory: ProcessLookupError that says so."""
    assert (kthreadd.alive, kthreadd.wait(0)) == (True, False)
    with pytest.raises(ProcessLookupError, match="kernel thread"):
        read(kthreadd)
