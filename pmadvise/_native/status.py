"""csrc/status.c: state, sizes and times of a process."""

from __future__ import annotations

import os

from pmadvise._native.base import ffi, lib


def status_read(
    proc: int,
) -> tuple[str, int, int, int, int, int, int, int, int, int, int]:
    """Return the fields of a struct pmadvise_status, of a /proc/PID directory.

    Raises:
        OSError: ENOENT or ESRCH, it has gone.
    """
    found = ffi.new("struct pmadvise_status *")
    error = lib.pmadvise_status_read(proc, found)
    if error < 0:
        raise OSError(-error, os.strerror(-error))
    return (
        chr(found.state),
        found.threads,
        found.rss,
        found.anonymous,
        found.file,
        found.shmem,
        found.swap,
        found.locked,
        found.cpu_ticks,
        found.major_faults,
        found.start_ticks,
    )
