"""A handle as a thing that is opened, shared, waited for and closed."""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers.children import in_child
from helpers.proc import open_files
from helpers.public_calls import OTHERS, READS
from helpers.targets import PAGE, Target

from pmadvise import PIDFD_THREAD, AddressSpace, Process, Ranges, pidfd_open


@pytest.mark.parametrize("use", [*READS.values(), *OTHERS.values()], ids=READS | OTHERS)
def test_closed(process: Process, use: Callable[[Process], object]) -> None:
    """Every method of a closed handle raises ValueError."""
    process.maps()
    process.close()
    with pytest.raises(ValueError, match="closed"):
        use(process)


def test_closed_twice(process: Process) -> None:
    """Closing twice closes once: no file that another has opened since."""
    process.maps()
    process.close()
    other = os.open("/dev/null", os.O_RDONLY)
    process.close()
    os.close(other)


def test_pid_of_a_closed_one(target: Target, process: Process) -> None:
    """A closed handle still has its pid."""
    process.close()
    assert process.pid == target.pid
    assert repr(process) == f"<Process {target.pid} closed>"


@pytest.mark.parametrize("use", [lambda s: s.stale, AddressSpace.changed])
def test_snapshot_of_a_closed_one(
    process: Process, use: Callable[[AddressSpace], object]
) -> None:
    """A snapshot can't be compared once its handle is closed."""
    space = process.maps()
    process.close()
    with pytest.raises(ValueError, match="closed"):
        use(space)


def test_snapshot_is_still_there(process: Process) -> None:
    """The VMAs of a snapshot can be looked at when its handle is closed."""
    space = process.maps()
    before = list(space)
    process.close()
    assert list(space) == before


def test_no_file_leaks(target: Target) -> None:
    """A thousand handles that were read and closed leave no file open."""
    before = open_files()
    for _ in range(1000):
        with Process(target.pid) as process:
            process.maps()
    assert open_files() == before


def test_from_pidfd(target: Target) -> None:
    """A pidfd is duplicated: either may be closed without the other."""
    pidfd = os.dup(target.pidfd)
    with Process.from_pidfd(pidfd) as process:
        os.close(pidfd)
        assert (process.pid, process.alive) == (target.pid, True)
        with Process.from_pidfd(process) as other:
            assert other.maps()[0] == process.maps()[0]
    os.fstat(target.pidfd)


@pytest.mark.parametrize("leader", [True, False])
def test_from_the_pidfd_of_a_thread(target: Target, leader: bool) -> None:
    """A thread's pidfd is refused."""
    tid = target.pid if leader else target.thread()
    pidfd = pidfd_open(tid, PIDFD_THREAD)
    before = open_files()
    with pytest.raises(ValueError, match="thread"):
        Process.from_pidfd(pidfd)
    assert open_files() == before
    os.close(pidfd)


def test_from_another_file() -> None:
    """A file of another kind is a ValueError, which has its own number."""
    with open("/dev/null") as file:
        text = f"file descriptor {file.fileno()} is not a pidfd"
        with pytest.raises(ValueError, match=text):
            Process.from_pidfd(file)


@pytest.mark.parametrize("number", [-1, 1 << 20])
def test_from_no_file(number: int) -> None:
    """A number of no open file is EBADF."""
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)) as caught:
        Process.from_pidfd(number)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("fd", ["1", None, 1.0])
def test_from_another_type(fd: Any) -> None:
    """An object that is no int and has no fileno() is a TypeError."""
    with pytest.raises(TypeError, match="pidfd"):
        Process.from_pidfd(fd)


def test_from_the_pidfd_of_a_reaped_process(target: Target) -> None:
    """The pidfd of a process that was reaped is ProcessLookupError."""
    target.kill()
    with pytest.raises(ProcessLookupError):
        Process.from_pidfd(target.pidfd)


def test_selectors(target: Target, process: Process) -> None:
    """A handle can be registered with a selector, and is ready at the end."""
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        assert selector.select(0) == []
        target.popen.kill()
        ((key, _),) = selector.select()
        assert key.fileobj is process


def test_asyncio(target: Target, process: Process) -> None:
    """An event loop of asyncio can wait for the end of a process."""

    async def wait() -> bool:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(process, ended.set)
        target.popen.kill()
        await ended.wait()
        loop.remove_reader(process)
        return process.alive

    assert asyncio.run(wait()) is False


def test_several_threads(target: Target, process: Process) -> None:
    """One handle is used by several threads at a time."""
    expected = list(process.maps())
    start = threading.Barrier(4)

    def look(_: int) -> tuple[object, ...]:
        start.wait()
        seen = list(process.maps()), process.alive, process.wait(0)
        return (*seen, process.resident(Ranges([(0, PAGE)])), process.memory().swap)

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(look, range(40)))
    assert seen == [(expected, True, False, Ranges(), target.status("VmSwap"))] * 40


def test_a_fork_closes_its_own(process: Process) -> None:
    """A fork of the holder may close its handle; the holder's stays open."""
    assert in_child(process.close).error is None
    assert (process.alive, len(process.maps()) > 0) == (True, True)
