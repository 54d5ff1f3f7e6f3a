"""csrc/pidfd_info.c: the process of a pidfd."""

from __future__ import annotations

from pmadvise._native.base import ffi, lib


def pidfd_info(pidfd: int) -> tuple[int, int]:
    """Return the flags of a pidfd, or -errno, and the process ID as /proc counts.

    The ID is 0 if /proc does not show the process, -1 if that has been reaped.
    """
    pid = ffi.new("int *")
    return lib.pmadvise_pidfd_info(pidfd, pid), pid[0]
