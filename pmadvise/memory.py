"""Memory: the sums of a process, its working set, and the swap space."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass

from pmadvise._handle.identity import Identity
from pmadvise._handle.mm import Mm
from pmadvise._proc.files import lines, parse_kb_fields, read

_ZRAM = rb"/dev/(block/)?zram[0-9]+"
_HUGE_FIELDS = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a process, in bytes, as smaps_rollup adds it up.

    Source: /proc/PID/smaps_rollup and status, proc_pid_smaps(5).
    """

    rss: int
    """In memory, pages shared with others included; not hugetlb pages."""
    pss: int | None
    """In memory, each page divided by the number of processes that map it; None if the
    kernel has no smaps_rollup."""
    uss: int | None
    """In memory, and mapped by no other process; None likewise."""
    anonymous: int
    """In memory, of no file."""
    file: int
    """In memory, of files."""
    shmem: int
    """In memory, of shared memory and tmpfs."""
    swap: int
    """In swap, by VmSwap of status: shared memory is not counted."""
    swap_with_shmem: int | None
    """In swap, shared memory included; None without smaps_rollup."""
    hugetlb: int
    """In hugetlb pages, which are never swapped."""
    locked: int
    """Locked by mlock(2)."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as json.dumps() takes them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """The memory that a process touched during a time, in bytes.

    Source: /proc/PID/clear_refs and the Referenced of smaps_rollup, proc_pid_smaps(5).
    """

    referenced: int
    """Touched during that time, by the process or through a mapping that it shares."""
    resident: int
    """In memory at the end."""
    coarse: bool
    """Whether huge pages make it coarse: one touched byte counts as a huge page."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as json.dumps() takes them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Swap:
    """The swap space of the host, in bytes; source: /proc/swaps, proc_swaps(5)."""

    total: int
    free: int
    frees_at_once: bool
    """Whether memory that goes to swap is free immediately: all swap is on zram. On a
    disk the pages stay in the swap cache until the next reclaim."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as json.dumps() takes them."""
        return asdict(self)


def swap() -> Swap:
    """Return the swap space of the host; it reads one small file.

    >>> import pmadvise
    >>> swap = pmadvise.swap()
    >>> 0 <= swap.free <= swap.total
    True
    """
    total = used = 0
    on_zram = []
    try:
        text = read("/proc/swaps")
    except FileNotFoundError:  # built without CONFIG_SWAP
        text = b""
    for line in lines(text)[1:]:
        # Filename, with only blanks, tabs and newlines escaped, Type, Size and Used in
        # KiB, Priority
        name, _, size, in_use, *_ = filter(None, re.split(rb"[ \t]+", line))
        total += int(size) * 1024
        used += int(in_use) * 1024
        on_zram.append(re.fullmatch(_ZRAM, name) is not None)
    return Swap(total, total - used, bool(on_zram) and all(on_zram))


def measure_working_set(mm: Mm, seconds: float) -> WorkingSet:
    """Return the memory that a process touches during `seconds`.

    Raises:
        TypeError, ValueError: `seconds` is not a number, or is negative.
        PermissionError: A right is missing.
        ProcessLookupError: The process has gone, or has exec'd.
    """
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds {seconds!r} is not a number")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds {seconds!r} is not 0 or more, and finite")
    file = mm.file()  # detects an exec during the measurement
    mm.identity.write("clear_refs", b"1")
    mm.identity.wait(seconds)
    rollup = parse_kb_fields(mm.identity.read("smaps_rollup"))
    if mm.ended() is not None:
        raise mm.identity.gone()
    del file
    return WorkingSet(
        referenced=rollup["Referenced"],
        resident=rollup["Rss"],
        coarse=any(rollup.get(name) for name in _HUGE_FIELDS),
    )


def read_memory(identity: Identity) -> Memory:
    """Return the sums of a process's memory; the kernel holds its mmap lock for it.

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
