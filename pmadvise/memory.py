"""How much memory a process has, in sums: Status and Memory."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from pmadvise._proc.files import fields, parse_kb_fields, parse_stat
from pmadvise._proc.identity import Identity

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a process and its memory, in bytes: cheap to read.

    Source: /proc/PID/status and stat, proc_pid_status(5) and proc_pid_stat(5). They
    need no permission and take no lock of the process. A zombie and a kernel thread
    have no memory: 0.
    """

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
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a process, in bytes, as smaps_rollup adds it up.

    Source: /proc/PID/smaps_rollup and status, proc_pid_smaps(5).
    """

    rss: int
    """In memory, pages shared with others included; not hugetlb pages."""
    pss: int | None
    """In memory, each page divided by the number of processes that map it; None where
    the kernel has no smaps_rollup."""
    uss: int | None
    """In memory, and mapped by no other process; None likewise."""
    anonymous: int
    """In memory, of no file."""
    file: int
    """In memory, of files."""
    shmem: int
    """In memory, of shared memory and tmpfs."""
    swap: int
    """In swap, as VmSwap of status has it: shared memory is not counted."""
    swap_with_shmem: int | None
    """In swap, shared memory included; None without smaps_rollup."""
    hugetlb: int
    """In hugetlb pages, which are never swapped."""
    locked: int
    """Locked by mlock(2)."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as json.dumps() takes them."""
        return asdict(self)


def read_status(identity: Identity) -> Status:
    """Return the state of a process and its memory.

    Raises:
        ProcessLookupError: It has gone.
        PermissionError: Its directory in /proc is hidden.
    """
    text = identity.read("status")
    stat = parse_stat(identity.read("stat"))
    size = parse_kb_fields(text).get
    return Status(
        state=stat.state,
        threads=int(fields(text).get("Threads", b"0")),
        rss=size("VmRSS", 0),
        anonymous=size("RssAnon", 0),
        file=size("RssFile", 0),
        shmem=size("RssShmem", 0),
        swap=size("VmSwap", 0),
        locked=size("VmLck", 0),
        cpu=(stat.user_ticks + stat.system_ticks) * _TICK,
        major_faults=stat.major_faults,
        started=stat.start_ticks * _TICK,
    )


def read_memory(identity: Identity) -> Memory:
    """Return the sums of a process's memory; the kernel holds its mmap lock meanwhile.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone or has no memory.
    """
    if identity.has_ended():
        raise identity.gone("the process has exited")
    status = parse_kb_fields(identity.read("status"))
    try:
        rollup = parse_kb_fields(identity.read("smaps_rollup"))
    except ProcessLookupError:  # gone, or built without CONFIG_PROC_PAGE_MONITOR
        status, rollup = parse_kb_fields(identity.read("status")), {}
    if "VmRSS" not in status:
        raise identity.gone()
    uss = rollup.get("Private_Clean", 0) + rollup.get("Private_Dirty", 0)
    return Memory(
        rss=rollup.get("Rss", status["VmRSS"]),
        pss=rollup.get("Pss"),
        uss=uss if rollup else None,
        anonymous=rollup.get("Anonymous", status["RssAnon"]),
        file=status["RssFile"],
        shmem=status["RssShmem"],
        swap=status["VmSwap"],
        swap_with_shmem=rollup.get("Swap"),
        hugetlb=status.get("HugetlbPages", 0),
        locked=status["VmLck"],
    )
