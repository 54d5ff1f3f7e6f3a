"""Pidfds: the number of a process, its directory in /proc, and its end."""

from __future__ import annotations

import errno
import os

from pmadvise._native.descriptor import PIDFD_THREAD, Descriptor, pidfd_info
from pmadvise._origin import own
from pmadvise._proc.files import read_stat, wait_readable


def pid_of(pidfd: int, name: int | None = None) -> int:
    """Return the process ID of a pidfd whose process has not been reaped.

    The number is that of /proc, which may show another pid namespace: 0 if the process
    is not in that namespace.

    Args:
        pidfd: The file descriptor.
        name: The number for messages, if it is a duplicate of the caller's.

    Raises:
        OSError: It is no open file descriptor, or there is no /proc.
        ValueError: It is no pidfd, or a thread's.
        ProcessLookupError: The process has been reaped.
    """
    flags, pid = pidfd_info(pidfd)
    name = pidfd if name is None else name
    if flags == -errno.EINVAL:
        raise ValueError(f"file descriptor {name} is not a pidfd")
    if flags < 0:
        path = f"/proc/self/fdinfo/{name}"
        raise OSError(-flags, os.strerror(-flags), path)
    if flags & PIDFD_THREAD:
        raise ValueError(f"pidfd {name} is of a thread, not of a process")
    if pid < 0:
        raise ProcessLookupError(errno.ESRCH, "the process has exited")
    return pid


def directory_of(pidfd: int) -> tuple[Descriptor | None, int]:
    """Open the directory of a pidfd's process in /proc.

    Returns:
        Its file descriptor, None if it is hidden; and the process ID in that /proc, 0
        if it does not show the process.

    Raises:
        OSError: No file descriptor is free.
        ValueError: It is no pidfd, or a thread's.
        ProcessLookupError: The process has been reaped.
    """
    try:
        pid = pid_of(pidfd)
    except own(FileNotFoundError):  # no /proc, or that of a pid namespace without us
        return None, 0
    if pid == 0:
        return None, 0
    proc = Descriptor()
    try:
        ended, is_hidden = proc.open_proc(pidfd, pid), False
    except own(FileNotFoundError, PermissionError, ProcessLookupError):  # hidepid
        ended, is_hidden = has_ended(pidfd), True
    if ended:
        # It is still of this process unless that was reaped.
        try:
            pid_of(pidfd)
        except BaseException:
            proc.close()
            raise
    return None if is_hidden else proc, pid


def has_ended(pidfd: int, timeout: float | None = 0) -> bool:
    """Return whether the last thread has ended, after waiting up to `timeout` seconds.

    Raises:
        ValueError: `timeout` is negative.
    """
    return wait_readable(pidfd, timeout)


def no_mm(pidfd: int, proc: int) -> str | None:
    """Return why a process has no address space; None if it should have one.

    Args:
        pidfd: Of the process.
        proc: File descriptor of its directory in /proc; -1 if that is hidden.
    """
    ended = has_ended(pidfd)
    try:
        stat = read_stat(proc) if proc >= 0 else None
    except own(FileNotFoundError, ProcessLookupError):
        return "the process has exited"
    if ended:
        zombie = ": a zombie that its parent has not yet waited for"
        return "the process has exited" + (zombie if stat is not None else "")
    if stat is None:
        return None
    if stat.is_kernel_thread:
        return "a kernel thread has no memory of its own"
    if stat.state in "ZX":
        return "its leader has exited: the memory of its threads can't be reached"
    return "the process is exiting" if stat.is_exiting else None
