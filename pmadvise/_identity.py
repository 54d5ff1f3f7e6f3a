"""Which process a pidfd is of: its directory in /proc, and what is left of it."""

from __future__ import annotations

import errno
import os
import select

from pmadvise.calls import PIDFD_THREAD
from pmadvise.maps import read_proc

_PF_EXITING, _PF_KTHREAD = 0x4, 0x200000  # include/linux/sched.h


def pid_of(pidfd: int) -> int:
    """Return the process ID of a pidfd whose process has not been reaped.

    In the pid namespace of /proc, which may be another than ours: 0 if not in that.

    Raises:
        OSError: It is no open file descriptor, or there is no /proc.
        ValueError: It is no pidfd, or a thread's.
        ProcessLookupError: The process has been reaped.
    """
    fields = {}
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
        for line in file.readall().splitlines():
            name, _, value = line.partition(b":")
            fields[name] = value.strip()
    if b"Pid" not in fields:
        raise ValueError(f"file descriptor {pidfd} is not a pidfd")
    if int(fields[b"flags"], 8) & PIDFD_THREAD:
        raise ValueError(f"pidfd {pidfd} is of a thread, not of a process")
    pid = int(fields[b"Pid"])
    if pid < 0:
        raise ProcessLookupError(errno.ESRCH, "the process has exited")
    return pid


def directory_of(pidfd: int) -> int:
    """Open the directory of a pidfd's process in /proc; -1 if it is not to be seen.

    Raises:
        ValueError: It is no pidfd, or a thread's.
        ProcessLookupError: The process has been reaped.
    """
    try:
        pid = pid_of(pidfd)
    except FileNotFoundError:  # no /proc, or that of a pid namespace without us
        return -1
    if pid == 0:
        return -1
    try:
        proc = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        proc = -1  # hidepid
    try:
        # Of this process, as it has not been reaped since; else of anybody.
        pid_of(pidfd)
    except BaseException:
        if proc >= 0:
            os.close(proc)
        raise
    return proc


def ended(pidfd: int, timeout: int | None = 0) -> bool:
    """Tell whether the last thread has ended, waiting up to `timeout` ms for it."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout))


def stat_of(proc: int) -> tuple[str, int]:
    """Return state and flags of /proc/PID/stat, which anybody may read."""
    fields = read_proc(proc, "stat").decode("ascii", "replace")
    state, *numbers = fields.rpartition(")")[2].split()
    return state, int(numbers[5])


def why_no_mm(pidfd: int, proc: int) -> str | None:
    """Say why a process has no address space; None if it should have one.

    Args:
        pidfd: Of the process.
        proc: File descriptor of its directory in /proc.
    """
    if ended(pidfd):
        try:
            stat_of(proc)
        except (PermissionError, ProcessLookupError):
            return "has exited"
        return "has exited: a zombie that its parent has not yet waited for"
    state, flags = stat_of(proc)
    if flags & _PF_KTHREAD:
        return "a kernel thread has no memory of its own"
    if state in "ZX":
        return "its leader has exited: the memory of its threads can't be reached"
    return "is exiting" if flags & _PF_EXITING else None
