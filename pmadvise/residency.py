"""What of a process is in memory and what in swap."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from pmadvise import _sys
from pmadvise._sys import (
    ADDRESS_MAX,
    PAGE_IS_GUARD,
    PAGE_IS_PFNZERO,
    PAGE_IS_PRESENT,
    PAGE_IS_SWAPPED,
    PAGE_SIZE,
)
from pmadvise.maps import AddressSpace, Mm, open_proc, read_proc
from pmadvise.ranges import Ranges

# Up to so many ranges each is walked alone; one walk over all of more is faster.
_WALKED_ALONE = 64


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process has in memory and in swap, in bytes.

    Source: /proc/PID/smaps_rollup and status, proc_pid_smaps(5).
    """

    rss: int
    """In memory, pages shared with others included."""
    pss: int | None
    """In memory, each page divided by the number of processes that map it; None where
    the kernel has no smaps_rollup."""
    anonymous: int
    """In memory, of no file."""
    file: int
    """In memory, of files."""
    shmem: int
    """In memory, of shared memory and tmpfs."""
    swap: int
    """In swap, as VmSwap of status has it: shared memory is not in it."""
    locked: int
    """Locked by mlock(2)."""


def sizes(text: bytes) -> dict[str, int]:
    """Return the lines "Name: number kB" of a file of /proc, in bytes."""
    found = {}
    # The kernel escapes newlines alone in the name of a process, the first line.
    for line in text.decode("ascii", "replace").split("\n"):
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if unit == "kB" and number.isdigit():
            found[name] = int(number) * 1024
    return found


def locked(smaps: bytes) -> Ranges:
    """Return the VMAs of /proc/PID/smaps that are locked: VmFlags says "lo"."""
    found: list[tuple[int, int]] = []
    start = end = 0
    for line in smaps.splitlines():
        first, _, rest = line.partition(b" ")
        if not first.endswith(b":"):
            start, end = (int(part, 16) for part in first.split(b"-"))
        elif first == b"VmFlags:" and b"lo" in rest.split():
            found.append((start, end - start))
    return Ranges(found)


def memory(proc: int) -> Memory:
    """Return what the process has in memory now.

    Args:
        proc: File descriptor of the directory /proc/PID.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone or has no memory.
    """
    status = sizes(read_proc(proc, "status"))
    try:
        rollup = sizes(read_proc(proc, "smaps_rollup"))
    except ProcessLookupError:  # gone, or built without CONFIG_PROC_PAGE_MONITOR
        status, rollup = sizes(read_proc(proc, "status")), {}
    if "VmRSS" not in status:
        raise ProcessLookupError(errno.ESRCH, "the process has no memory")
    return Memory(
        rss=rollup.get("Rss", status["VmRSS"]),
        pss=rollup.get("Pss"),
        anonymous=rollup.get("Anonymous", status["RssAnon"]),
        file=status["RssFile"],
        shmem=status["RssShmem"],
        swap=status["VmSwap"],
        locked=status["VmLck"],
    )


def resident(
    proc: int, mm: Mm, within: Ranges | Iterable[tuple[int, int]] | None = None
) -> Ranges:
    """Return the pages in memory, but for the zero page, merged.

    Args:
        proc: File descriptor of the directory /proc/PID.
        mm: Its address space.
        within: Where to look; None: everywhere.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone, or has exec'd.
    """
    return _pages(proc, mm, within, swapped=False)


def swapped(
    proc: int, mm: Mm, within: Ranges | Iterable[tuple[int, int]] | None = None
) -> Ranges:
    """Return the pages in swap, merged; as resident() does."""
    return _pages(proc, mm, within, swapped=True)


def _pages(
    proc: int,
    mm: Mm,
    within: Ranges | Iterable[tuple[int, int]] | None,
    swapped: bool,
) -> Ranges:
    wanted = None if within is None else Ranges(within).merged()
    fd = open_proc(proc, "pagemap")
    try:
        # Opened while the mm was the current one, so it is of that mm.
        if not mm.current:
            raise ProcessLookupError(
                errno.ESRCH, "the process has exec'd or exited: call maps() again"
            )
        try:
            found = _scan(fd, wanted, swapped)
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
            found = _words(fd, mm, wanted, swapped)
    finally:
        os.close(fd)
    # The walks are of whole pages, and of what lies between many ranges too.
    return found.merged() if wanted is None else found & wanted


def _spans(wanted: Ranges) -> list[tuple[int, int]]:
    """Return [start, end) of whole pages to walk, so that they hold `wanted`."""
    spans = [
        (
            address & -PAGE_SIZE,
            min(-(-(address + length) // PAGE_SIZE) * PAGE_SIZE, _TOP),
        )
        for address, length in (
            wanted if len(wanted) <= _WALKED_ALONE else (wanted[0], wanted[-1])
        )
    ]
    if len(wanted) > _WALKED_ALONE:
        return [(spans[0][0], spans[-1][1])]
    return spans


_TOP = ADDRESS_MAX + 1 - PAGE_SIZE


def _scan(fd: int, wanted: Ranges | None, swapped: bool) -> Ranges:
    """Ask PAGEMAP_SCAN, Linux 6.7."""
    if wanted is not None:
        try:
            return _scan_spans(fd, _spans(wanted), swapped)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
    user = Ranges([(0, _user_end(fd))])
    return _scan_spans(fd, _spans(user if wanted is None else wanted & user), swapped)


def _scan_spans(fd: int, spans: list[tuple[int, int]], swapped: bool) -> Ranges:
    if not swapped:
        return _adopt_scan(
            fd, spans, PAGE_IS_PFNZERO, PAGE_IS_PRESENT | PAGE_IS_PFNZERO
        )
    try:
        # A guard page shows as swapped and is none; the category is of Linux 6.15.
        return _adopt_scan(fd, spans, PAGE_IS_GUARD, PAGE_IS_SWAPPED | PAGE_IS_GUARD)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _adopt_scan(fd, spans, 0, PAGE_IS_SWAPPED)


def _adopt_scan(
    fd: int, spans: list[tuple[int, int]], inverted: int, mask: int
) -> Ranges:
    return Ranges._adopt(*_sys.pagemap_scan(fd, spans, inverted, mask))


def _user_end(fd: int) -> int:
    """Return where user space ends: there the kernel does not say EFAULT."""
    for bits in range(ADDRESS_MAX.bit_length(), 30, -1):
        end = (1 << bits) - PAGE_SIZE
        try:
            _sys.pagemap_scan(fd, [(end - PAGE_SIZE, end)], 0, PAGE_IS_PRESENT)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
        else:
            return end
    raise OSError(errno.EFAULT, "PAGEMAP_SCAN: the kernel takes no end of user space")


def _words(fd: int, mm: Mm, wanted: Ranges | None, swapped: bool) -> Ranges:
    """Read the words of pagemap, of the VMAs alone: between them there are many."""
    mapped = AddressSpace(mm).select()
    wanted = mapped if wanted is None else wanted & mapped
    spans = [
        (address & -PAGE_SIZE, -(-(address + length) // PAGE_SIZE) * PAGE_SIZE)
        for address, length in wanted
        if address <= _TOP
    ]
    try:
        kpageflags = os.open("/proc/kpageflags", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # not root: then no frame numbers are told either
        kpageflags = -1
    try:
        return Ranges._adopt(*_sys.pagemap_words(fd, kpageflags, spans, swapped))
    finally:
        if kpageflags >= 0:
            os.close(kpageflags)
