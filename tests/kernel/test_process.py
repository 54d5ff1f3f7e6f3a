"""Whose handle it is: processes of every kind, who may read them, and for how long."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers.handles import open_files, reads, send, thread_of
from helpers.targets import (
    CAP_SYS_NICE,
    PAGE,
    Target,
    become_nobody,
    drop_capabilities,
    in_child,
    wait_for_state,
)

from pmadvise import Advice, Process, pidfd_open

root = pytest.mark.needs_root

SYS_EXIT = {"x86_64": 60, "s390x": 1, "ppc64le": 1}.get(platform.machine(), 93)


@pytest.fixture
def zombie(target: Target) -> Iterator[Process]:
    """A process that has ended and was not waited for."""
    target.process.kill()
    wait_for_state(target.pid, "Z")
    with Process(target.pid) as handle:
        yield handle


@pytest.fixture
def leaderless(target: Target) -> Iterator[Process]:
    """A process whose leader has exited while a thread of it lives on."""
    target.run("threading.Thread(target=time.sleep, args=(1000,)).start()")
    with Process(target.pid) as handle:
        send(target, f"libc.syscall({SYS_EXIT}, 0)")
        wait_for_state(target.pid, "Z")
        yield handle


@pytest.fixture
def kthreadd() -> Iterator[Process]:
    """The parent of all kernel threads."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        if path.read_text() == "kthreadd\n":
            with Process(int(path.parent.name)) as handle:
                yield handle
            return
    pytest.skip("no kernel thread is to be seen in this pid namespace")


# A process that lives


def test_a_child(target: Target, process: Process) -> None:
    """A handle has the pid, a pidfd of its own, and says that the process lives."""
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
    """What can't be a pid is refused as pidfd_open() refuses it, leaving no file."""
    before = open_files()
    with pytest.raises(error, match="pid"):
        Process(pid)
    assert open_files() == before


def test_a_thread_is_no_process(target: Target) -> None:
    """The ID of a thread opens no handle."""
    with pytest.raises(OSError, match="PIDFD_THREAD") as caught:
        Process(thread_of(target))
    assert caught.value.errno in (errno.EINVAL, errno.ENOENT)


# One that has ended


def test_wait_for_the_end(target: Target, process: Process) -> None:
    """wait() returns True once the process has ended, and from then on at once."""
    assert process.wait(0.001) is False
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process.wait)
        target.process.kill()
        assert waiting.result() is True
    assert (process.wait(0), process.wait(1e9), process.wait()) == (True, True, True)
    assert process.alive is False


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)],
)
def test_wait_refuses(process: Process, timeout: Any, error: type[Exception]) -> None:
    """A time that is none is refused."""
    with pytest.raises(error):
        process.wait(timeout)


@reads
def test_zombie(zombie: Process, read: Callable[[Process], object]) -> None:
    """A zombie has ended: it is not alive, and whoever reads it is told."""
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
    """A leader that exited is not alive; its threads are waited for, not read."""
    assert (leaderless.alive, leaderless.wait(0)) == (False, False)
    with pytest.raises(ProcessLookupError, match="leader has exited"):
        read(leaderless)
    with Process(leaderless.pid) as later:
        assert later.alive is False
        with pytest.raises(ProcessLookupError, match="leader has exited"):
            read(later)


@root
def test_wait_for_the_last_thread(target: Target, leaderless: Process) -> None:
    """What waits for a leader that exited waits for its last thread."""
    target.process.kill()
    assert leaderless.wait() is True


@root
@reads
def test_kernel_thread(kthreadd: Process, read: Callable[[Process], object]) -> None:
    """A kernel thread is alive and has no memory: ProcessLookupError that says so."""
    assert (kthreadd.alive, kthreadd.wait(0)) == (True, False)
    with pytest.raises(ProcessLookupError, match="kernel thread"):
        read(kthreadd)


# Who may read


@root
@reads
def test_stranger(target: Target, read: Callable[[Process], object]) -> None:
    """Anybody may open and wait; PermissionError with the reason comes at the read."""

    def look() -> tuple[bool, bool]:
        become_nobody()
        with Process(target.pid) as process:
            with pytest.raises(PermissionError, match="ptrace read access"):
                read(process)
            return process.alive, process.wait(0)

    assert in_child(look)[:4] == (None, None, "", (True, False))


@root
def test_stranger_that_has_ended(target: Target, process: Process) -> None:
    """A stranger that has ended is ProcessLookupError, as it has no secret left."""

    def look() -> None:
        become_nobody()
        with Process(target.pid) as stranger:
            send(target, "os._exit(0)")
            stranger.wait()
            assert stranger.alive is False
            stranger.maps()

    assert in_child(look).error == "ProcessLookupError"


def mount_proc(options: str) -> None:
    """Give the calling process a /proc of its own, mounted so."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
    assert libc.mount(b"", b"/", b"", 0x44000, None) == 0  # MS_REC | MS_PRIVATE
    assert libc.mount(b"proc", b"/proc", b"proc", 0, options.encode()) == 0


@root
@reads
@pytest.mark.parametrize("hidepid", [1, 2])
def test_hidden(
    target: Target, hidepid: int, read: Callable[[Process], object]
) -> None:
    """A process that /proc hides is opened and waited for; reading says hidepid."""

    def look() -> tuple[bool, bool, bool, bool]:
        mount_proc(f"hidepid={hidepid}")
        become_nobody()
        with Process(target.pid) as process:
            seen = process.alive, process.wait(0)
            with pytest.raises(PermissionError, match=r"hidepid|ptrace read access"):
                read(process)
            send(target, "os._exit(0)")
            process.wait()
            with pytest.raises(ProcessLookupError):
                read(process)
            return (*seen, process.alive, process.wait(0))

    outcome = in_child(look)
    assert (outcome.text, outcome.value) == ("", (True, False, False, True))


@root
@pytest.mark.parametrize("hidepid", [1, 2])
def test_hidden_since(target: Target, hidepid: int) -> None:
    """A process is alive also when /proc has come to hide it from its reader."""

    def look() -> bool:
        mount_proc(f"hidepid={hidepid}")
        with Process(target.pid) as process:
            become_nobody()
            return process.alive

    assert in_child(look)[:4] == (None, None, "", True)


@root
def test_proc_of_another_pid_namespace(tmp_path: Path) -> None:
    """Where /proc has other pids than the caller, it is still the right process."""
    path = tmp_path / "mine alone"
    path.write_bytes(bytes(PAGE))

    def inside() -> list[object]:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            libc = ctypes.CDLL(None)
            libc.mmap(None, ctypes.c_size_t(PAGE), 1, 2, os.open(path, 0), 0)
            os.write(writer, b".")
            signal.pause()
        os.read(reader, 1)
        seen: list[object] = [pid]
        pidfd = pidfd_open(pid)
        for opened in (Process(pid), Process.from_pidfd(pidfd)):
            with opened as process:
                seen.append(process.maps().select(path=str(path)).total)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return seen

    def look() -> object:
        assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID
        return in_child(inside)[:4]

    assert in_child(look).value == (None, None, "", [2, PAGE, PAGE])


# check()


@root
def test_check_advises_nothing(target: Target, process: Process) -> None:
    """What would be allowed is None, and nothing is advised."""
    address = target.filled(64 * PAGE)
    for advice in Advice:
        if advice.remote:
            process.check(advice)
    assert target.smaps(address, "Referenced") == 64 * PAGE


@pytest.mark.parametrize("advice", [a for a in Advice if not a.remote] + [99], ids=str)
def test_check_of_what_is_not_for_others(process: Process, advice: int) -> None:
    """What another process never takes is refused before the kernel is asked."""
    with pytest.raises(ValueError, match="not for another process"):
        process.check(advice)


@root
def test_check_without_cap_sys_nice(process: Process) -> None:
    """Without CAP_SYS_NICE it is PermissionError that says so."""

    def check() -> None:
        drop_capabilities(CAP_SYS_NICE)
        process.check(Advice.COLD)

    outcome = in_child(check)
    assert (outcome.error, outcome.errno) == ("PermissionError", errno.EPERM)
    assert "CAP_SYS_NICE" in outcome.text


@pytest.mark.parametrize("advice", ["COLD", None, 20.0])
def test_check_of_what_is_no_advice(process: Process, advice: Any) -> None:
    """What is no int is a TypeError."""
    with pytest.raises(TypeError, match="advice"):
        process.check(advice)
