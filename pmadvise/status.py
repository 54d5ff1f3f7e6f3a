"""Status: the state of a process and its memory, by counters of the kernel."""

from __future__ import annotations

import os

from pmadvise._handle.identity import Identity
from pmadvise._native.read import status_read
from pmadvise._origin import own
from pmadvise._record import as_dict, record

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@record
class Status:
    """The name and state of a process, and its memory in bytes: cheap to read.

    Source: /proc/PID/status and stat, proc_pid_status(5) and proc_pid_stat(5). They
    need no permission and take no lock of the process. A zombie and a kernel thread
    have no memory: 0.
    """

    name: str
    """Chosen by the process (comm), undecodable bytes by surrogateescape."""
    uid: int
    """The effective user ID."""
    parent: int
    """The process ID of its parent; 0 if the parent is of another PID namespace."""
    state: str
    """A letter: "R" running, "S" sleeping, "D" waiting, "T" stopped, "Z" zombie, ..."""
    threads: int
    rss: int
    """In memory, pages shared with others included; not hugetlb pages."""
    anonymous: int
    """In memory, of no file."""
    file: int
    """In memory, of files."""
    shmem: int
    """In memory, of shared memory and tmpfs."""
    swap: int
    """In swap; shared memory is not counted."""
    locked: int
    """Locked by mlock(2)."""
    cpu: float
    """Seconds of CPU time, user and system, of all threads."""
    major_faults: int
    """Page faults that had to read from a disk or from swap."""
    started: float
    """Seconds between the boot of the machine and the start of the process."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as json.dumps() takes them."""
        return as_dict(self)


def read_status(identity: Identity) -> Status:
    """Return the state of a process and its memory.

    Raises:
        ProcessLookupError: It has gone.
        PermissionError: Its directory in /proc is hidden.
    """
    with identity.pin() as pin:
        try:
            fields = status_read(pin.proc)
        except own(OSError) as error:
            raise identity.refusal("status", error.errno or 0) from None
    # Name by name: a call with two slices of a tuple takes half as long again.
    (
        uid,
        parent,
        state,
        threads,
        rss,
        anonymous,
        file,
        shmem,
        swap,
        locked,
        cpu_ticks,
        major_faults,
        start_ticks,
        name,
    ) = fields
    return Status(
        os.fsdecode(name),
        uid,
        parent,
        chr(state),
        threads,
        rss,
        anonymous,
        file,
        shmem,
        swap,
        locked,
        cpu_ticks * _TICK,
        major_faults,
        start_ticks * _TICK,
    )
