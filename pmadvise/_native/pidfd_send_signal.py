"""csrc/pidfd_send_signal.c: the system call."""

from __future__ import annotations

from pmadvise._native.base import lib


def pidfd_send_signal(pidfd: int, number: int) -> int:
    """Send a signal to a process; return 0, or -errno."""
    return lib.pmadvise_pidfd_send_signal(pidfd, number)
