"""Seccomp filters of a child: which system calls it makes, and faults in them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import struct
from collections.abc import Callable

import pytest

# include/uapi/linux/filter.h, seccomp.h
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_RET_ALLOW, _RET_ERRNO, _RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_RET_USER_NOTIF = 0x7FC00000
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_PR_SET_NO_NEW_PRIVS = 38
_NR_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277}
_NR_PIDFD_GETFD = 438

KILL = -1
"""Stands for an errno: the system call kills the process."""


def _install(statements: list[tuple[int, int, int, int]], flags: int) -> int:
    octets = b"".join(struct.pack("HBBI", *statement) for statement in statements)
    program = ctypes.create_string_buffer(octets)
    header = struct.pack("HxxxxxxP", len(statements), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if platform.machine() not in _NR_SECCOMP:
        pytest.skip("machine: the number of seccomp(2) is not known here")
    result: int = libc.syscall(
        _NR_SECCOMP[platform.machine()], _SET_MODE_FILTER, flags, header
    )
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


def break_syscall(number: int, errno: int) -> None:
    """Let one system call fail with an errno for good, or KILL; in a child."""
    answer = _RET_KILL_PROCESS if errno == KILL else _RET_ERRNO | errno
    _install(
        [
            (_LOAD, 0, 0, 0),
            (_IF_EQUAL, 0, 1, number),
            (_RETURN, 0, 0, answer),
            (_RETURN, 0, 0, _RET_ALLOW),
        ],
        0,
    )


def syscalls_of(function: Callable[[], object]) -> set[int]:
    """Return the numbers of the system calls that a function makes in a child.

    The kernel asks this process before each: seccomp's user notification, Linux 5.5.
    """
    go_reader, go_writer = os.pipe()
    ready_reader, ready_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            fd = _install(
                [
                    (_LOAD, 0, 0, 0),
                    *[(_IF_EQUAL, len(_QUIET) - i, 0, n) for i, n in enumerate(_QUIET)],
                    (_RETURN, 0, 0, _RET_USER_NOTIF),
                    (_RETURN, 0, 0, _RET_ALLOW),
                ],
                _NEW_LISTENER,
            )
            os.write(ready_writer, struct.pack("i", fd))
            os.read(go_reader, 1)
            function()
        finally:
            os._exit(0)
    (fd,) = struct.unpack("i", os.read(ready_reader, 4))
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    listener = libc.syscall(_NR_PIDFD_GETFD, pidfd, fd, 0)
    assert listener >= 0, os.strerror(ctypes.get_errno())
    os.write(go_writer, b"g")
    numbers = _listen(listener, pidfd)
    for one in (go_reader, go_writer, ready_reader, ready_writer, pidfd, listener):
        os.close(one)
    os.waitpid(pid, 0)
    return numbers


# read, write, close, futex and exit_group: the child needs them before it is listened
# to, and Python itself does all the time.
_QUIET = {
    "x86_64": (0, 1, 3, 202, 231),
}.get(platform.machine(), (63, 64, 57, 98, 94))


def _listen(listener: int, pidfd: int) -> set[int]:
    numbers: set[int] = set()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while True:
        ready = dict(poll.poll(60_000))
        assert ready, "the child hangs"
        if not ready.get(listener, 0) & select.POLLIN:
            return numbers
        notification = bytearray(80)
        try:
            fcntl.ioctl(listener, _NOTIF_RECV, notification)
            key, _, _, number = struct.unpack_from("QIIi", notification)
            numbers.add(number)
            fcntl.ioctl(
                listener, _NOTIF_SEND, struct.pack("QqiI", key, 0, 0, _CONTINUE)
            )
        except FileNotFoundError:
            continue  # the thread was killed meanwhile
