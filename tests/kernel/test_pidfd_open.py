"""pidfd_open(2) on the real kernel."""

from __future__ import annotations

import errno
import os
import select
from typing import Any

import pytest
from helpers.children import in_child
from helpers.filters import NR_PIDFD_OPEN, refuse_syscall
from helpers.targets import Target

from pmadvise import (
    PIDFD_NONBLOCK,
    PIDFD_THREAD,
    pidfd_open,
)


def test_pidfd_is_close_on_exec(target: Target) -> None:
    """The pidfd does not leak into what the caller executes."""
    assert os.get_inheritable(target.pidfd) is False


def test_pidfd_is_readable_once_the_process_has_ended(target: Target) -> None:
    """A pidfd can be polled for the end of the process."""
    poll = select.poll()
    poll.register(target.pidfd, select.POLLIN)
    assert poll.poll(0) == []
    target.popen.kill()
    assert poll.poll() == [(target.pidfd, select.POLLIN)]


def test_pidfd_nonblock(target: Target) -> None:
    """PIDFD_NONBLOCK makes the pidfd non-blocking."""
    pidfd = pidfd_open(target.pid, PIDFD_NONBLOCK)
    assert os.get_blocking(pidfd) is False
    os.close(pidfd)


def test_pidfd_thread(target: Target) -> None:
    """PIDFD_THREAD opens a thread that leads no process."""
    pidfd = pidfd_open(target.thread(), PIDFD_THREAD)
    os.close(pidfd)


def test_pidfd_of_a_thread_without_the_flag(target: Target) -> None:
    """A thread that leads no process is refused, and the message names the flag."""
    with pytest.raises(OSError, match="PIDFD_THREAD") as caught:
        pidfd_open(target.thread())
    assert caught.value.errno in (errno.EINVAL, errno.ENOENT)


def test_pidfd_of_nobody() -> None:
    """A pid that is not in use is ProcessLookupError."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError, match=rf"pidfd_open\({child}\)"):
        pidfd_open(child)


@pytest.mark.parametrize("pid", [0, -1, -(1 << 31)])
def test_pid_that_names_none(pid: int) -> None:
    """Zero and negative pids are the kernel's EINVAL."""
    with pytest.raises(OSError, match=rf"pidfd_open\({pid}\)") as caught:
        pidfd_open(pid)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("flags", [1, -1, 0xFFFF])
def test_pidfd_flags_unknown(flags: int) -> None:
    """Flags that the kernel does not know are its EINVAL."""
    with pytest.raises(OSError, match="flags") as caught:
        pidfd_open(os.getpid(), flags)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("1",), TypeError, "pid '1' is not an int"),
        ((1.0,), TypeError, "pid 1.0"),
        ((None,), TypeError, "pid None"),
        ((1 << 31,), ValueError, "pid 2147483648"),
        ((1, "x"), TypeError, "flags 'x'"),
        ((1, 1 << 40), ValueError, "flags"),
    ],
)
def test_pidfd_open_refuses(arguments: Any, error: type[Exception], words: str) -> None:
    """A value that does not fit into a C int is refused by name and value."""
    with pytest.raises(error, match=words):
        pidfd_open(*arguments)


def test_seccomp_filter_on_pidfd_open() -> None:
    """A filter that refuses pidfd_open is named."""

    def refused() -> None:
        refuse_syscall(NR_PIDFD_OPEN, errno.EPERM)
        pidfd_open(os.getpid())

    outcome = in_child(refused)
    assert (outcome.error, "seccomp" in outcome.text) == ("PermissionError", True)
