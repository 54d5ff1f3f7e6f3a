"""Memory: the sums of a process, its working set, and the swap space."""

from __future__ import annotations

import errno
import os
import re

from pmadvise import _reasons
from pmadvise._arguments import finite_seconds
from pmadvise._handle.identity import Identity
from pmadvise._handle.mm import Mm
from pmadvise._origin import own
from pmadvise._proc.files import (
    lines,
    parse_kb_fields,
    read,
    read_or_none,
    unescape,
)
from pmadvise._reasons import Answer
from pmadvise._record import as_dict, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    SwapKind = Literal["zram", "zswap", "disk"]
else:
    SwapKind = str

_ZRAM = rb"/dev/(block/)?zram[0-9]+"
_NUMBER = re.compile(rb"-?[0-9]+")
_HUGE_FIELDS = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")


@record
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
        return as_dict(self)


@record
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
        return as_dict(self)


@record
class SwapTier:
    """A swap device or file; source: /proc/swaps, proc_swaps(5)."""

    name: str
    """Its path, undecodable bytes by surrogateescape."""
    kind: SwapKind
    """"zram"; "disk"; or "zswap": a disk with the kernel's compressed pool of memory in
    front of it, which leaves pages to the disk when it is full."""
    total: int
    """Bytes."""
    free: int
    """Bytes; a page in the pool of zswap takes its place on the disk too."""
    priority: int
    """The kernel fills the highest first."""


@record
class Swap:
    """The swap space of the host, in bytes; source: /proc/swaps, proc_swaps(5)."""

    total: int
    free: int
    frees_at_once: bool
    """Whether memory that goes to swap is free immediately: all swap is zram, or has
    zswap in front of it, as long as its pool is not full. On a disk the pages stay in
    the swap cache until the next reclaim."""
    tiers: tuple[SwapTier, ...] = ()
    """In the order of /proc/swaps."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as json.dumps() takes them."""
        return {**as_dict(self), "tiers": [as_dict(tier) for tier in self.tiers]}


def swap() -> Swap:
    """Return the swap space of the host; it reads two small files.

    >>> import pmadvise
    >>> swap = pmadvise.swap()
    >>> 0 <= swap.free <= swap.total
    True

    Raises:
        OSError: /proc hides it (subset=pid, another file over it, a missing right), so
            whether there is swap is unknown; with the remedy.
    """
    found = swap_or_answer()
    if isinstance(found, Answer):
        raise found.error("/proc/swaps")
    return found


def swap_or_answer() -> Swap | Answer:
    """Return the swap space of the host, or the answer why it is hidden."""
    try:
        tiers = _parse_swaps(read("/proc/swaps"))
    except own(OSError) as error:
        if error.errno != errno.ENOENT or not _reasons.has_no_swap():
            return _reasons.no_swaps(error.errno or errno.EIO)
        tiers = []
    at_once = bool(tiers) and all(tier.kind != "disk" for tier in tiers)
    total, free = (sum(getattr(t, name) for t in tiers) for name in ("total", "free"))
    return Swap(total, free, at_once, tuple(tiers))


def _parse_swaps(text: bytes) -> list[SwapTier]:
    """Return the lines of /proc/swaps; raise OSError (ENODATA) if it is another file.

    The fields are Filename, with only blanks, tabs and newlines escaped, Type, Size and
    Used in KiB, Priority.
    """
    header, *rest = lines(text) or [b""]
    rows = [[*filter(None, re.split(rb"[ \t]+", line))] for line in rest]
    if not header.startswith(b"Filename") or not all(map(_is_swap, rows)):
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
    disk: SwapKind = "zswap" if rows and _has_zswap() else "disk"
    tiers = []
    for name, _, size, used, priority, *_ in rows:
        kind: SwapKind = "zram" if re.fullmatch(_ZRAM, name) else disk
        total = int(size) * 1024
        free = max(total - int(used) * 1024, 0)
        path = os.fsdecode(unescape(name))
        tiers.append(SwapTier(path, kind, total, free, int(priority)))
    return tiers


def _is_swap(row: list[bytes]) -> bool:
    return len(row) >= 5 and all(map(_NUMBER.fullmatch, row[2:5]))


def _has_zswap() -> bool:
    """Return whether new pages go to zswap first; Documentation/admin-guide/mm."""
    return read_or_none("/sys/module/zswap/parameters/enabled") in (b"Y\n", b"1\n")


def measure_working_set(mm: Mm, seconds: float) -> WorkingSet:
    """Return the memory that a process touches during `seconds`.

    Raises:
        TypeError, ValueError: `seconds` is not a number, or is negative.
        PermissionError: A right is missing.
        ProcessLookupError: The process has gone, or has exec'd.
    """
    finite_seconds("seconds", seconds)
    file, claim = mm.file(), mm.claim()  # the first detects an exec meanwhile
    try:
        mm.identity.write("clear_refs", b"1")
        mm.identity.wait(seconds)
        rollup = parse_kb_fields(mm.identity.read("smaps_rollup"))
    finally:
        claim.close()
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
    except own(ProcessLookupError):  # gone, or built without CONFIG_PROC_PAGE_MONITOR
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
