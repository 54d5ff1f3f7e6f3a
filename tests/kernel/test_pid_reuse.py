"""A PID that is in use again, by another process."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable, Iterator

import pytest
from helpers.proc import open_files
from helpers.public_calls import reads
from helpers.targets import Target

from pmadvise import Process
from pmadvise._native.descriptor import Descriptor

pytestmark = pytest.mark.needs_root

NR_CLONE3 = 435


def fork_as(pid: int) -> None:
    """Fork a stopped child that has this pid. Wraps clone3(2) with set_tid."""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = ctypes.c_int(pid)
    # struct clone_args: the exit signal, and the one element of set_tid
    arguments = struct.pack(
        "10Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1
    )
    number = -1
    while number < 0:
        number = libc.syscall(NR_CLONE3, arguments, len(arguments))
        if number == 0:
            while True:
                os.kill(os.getpid(), signal.SIGSTOP)
        if number < 0 and ctypes.get_errno() != errno.EEXIST:
            raise OSError(ctypes.get_errno(), "clone3")
    assert os.waitpid(pid, os.WUNTRACED)[0] == pid


@pytest.fixture
def reused(target: Target, process: Process) -> Iterator[Process]:
    """The handle of a process that has gone and whose pid another one has."""
    process.maps()
    target.kill()
    try:
        fork_as(target.pid)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.E2BIG):
            raise
        pytest.skip("kernel: it has no clone3 with set_tid, Linux 5.5")
    yield process
    os.kill(target.pid, signal.SIGKILL)
    os.waitpid(target.pid, 0)


@reads
def test_reused_pid(reused: Process, read: Callable[[Process], object]) -> None:
    """The handle never becomes the newcomer's: ProcessLookupError, again and again."""
    with Process(reused.pid) as newcomer:
        assert (newcomer.alive, len(newcomer.maps()) > 0) == (True, True)
        for _ in range(2):
            with pytest.raises(ProcessLookupError, match="exited"):
                read(reused)
            assert (reused.alive, reused.wait()) == (False, True)


def test_newcomer_is_not_touched(reused: Process) -> None:
    """No question to the old handle moves the newcomer's memory."""
    with Process(reused.pid) as newcomer:
        before = newcomer.resident(), newcomer.swapped()
        with pytest.raises(ProcessLookupError):
            reused.pageout(before[0], max_stall=None)
        assert (newcomer.resident(), newcomer.swapped()) == before


def test_pidfd_of_a_reused_pid(reused: Process) -> None:
    """The pidfd of the old handle does not open one of the newcomer."""
    with pytest.raises(ProcessLookupError):
        Process.from_pidfd(reused)


def test_pid_reused_while_it_is_opened(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pid that changes hands between pidfd and directory opens no handle."""
    target.run("None")
    real_open, todo = Descriptor.open_proc, [fork_as]

    def open_late(self: Descriptor, pidfd: int, pid: int) -> bool:
        if todo:
            target.kill()
            todo.pop()(target.pid)
        return real_open(self, pidfd, pid)

    monkeypatch.setattr(Descriptor, "open_proc", open_late)
    before = open_files()
    with pytest.raises(ProcessLookupError, match="exited"):
        Process(target.pid)
    assert (open_files(), todo) == (before, [])
    os.kill(target.pid, signal.SIGKILL)
    os.waitpid(target.pid, 0)
