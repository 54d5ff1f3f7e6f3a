"""csrc/status.c: state, sizes and times of a process."""

from __future__ import annotations

import os
from typing import NamedTuple

from pmadvise._native.base import ffi, lib


class StatusFields(NamedTuple):
    """A struct pmadvise_status; see csrc/pmadvise.h."""

    state: str
    threads: int
    rss: int
    anonymous: int
    file: int
    shmem: int
    swap: int
    locked: int
    cpu_ticks: int
    major_faults: int
    start_ticks: int


def status_read(proc: int) -> StatusFields:
    """Return the status of the process of a /proc/PID directory.

    Raises:
        OSError: ENOENT or ESRCH, it has gone.
    """
    found = ffi.new("struct pmadvise_status *")
    error = lib.pmadvise_status_read(proc, found)
    if error < 0:
        raise OSError(-error, os.strerror(-error))
    return StatusFields(
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
