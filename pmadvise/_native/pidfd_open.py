"""csrc/pidfd_open.c: the system call, and its flags."""

from __future__ import annotations

import os

from pmadvise._native.base import lib

PIDFD_NONBLOCK: int = os.O_NONBLOCK
"""Flag of pidfd_open(): waitid(2) on the pidfd does not block. Linux 5.10."""
PIDFD_THREAD: int = os.O_EXCL
"""Flag of pidfd_open(): the pidfd is of a thread, not of a process. Linux 6.9."""


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Return a pidfd, or -errno."""
    return lib.pmadvise_pidfd_open(pid, flags)
