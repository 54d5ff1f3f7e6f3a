"""Checks of each advice, by its effect on memory."""

from __future__ import annotations

import errno
import functools
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pmadvise
from pmadvise import PAGE_SIZE, Advice, Ranges, Report
from pmadvise._support import host
from pmadvise.selftest.child import Child
from pmadvise.selftest.libc import in_core, libc, map_memory
from pmadvise.selftest.requirements import (
    MIB,
    SMALL,
    TOLERANCE,
    Skip,
    mib,
    require_whole,
    retry_until,
    summary,
)

_IDLE = 3.0
"""Seconds without a page after which nothing more is read from a disk."""


@summary("Clear the Referenced marks of memory by COLD, and change nothing else.")
def check_cold(size: int) -> str:
    with Child() as child:
        child.require_permission(Advice.COLD)
        address = child.map(size)

        def referenced() -> int:
            return child.smaps(address, size, "Referenced")

        before = referenced()
        settled = retry_until(
            lambda: require_whole(child.process.cold([(address, size)]), size),
            lambda: referenced() <= TOLERANCE,
        )
        after, rss = referenced(), child.smaps(address, size, "Rss")
        if before < size or not settled or rss < size:
            raise AssertionError(
                f"of {size} bytes Referenced {before} -> {after}, Rss {rss}"
            )
        child.require_intact(address, size)
    return f"Referenced {mib(before)} -> {mib(after)}, memory intact"


@summary("Move anonymous memory to swap by PAGEOUT.")
def check_pageout(size: int) -> str:
    with Child() as child:
        child.require_permission(Advice.PAGEOUT)
        size = _size_for_swap(size)
        address = child.map(size)
        ranges = Ranges([(address, size)])
        reports: list[Report] = []

        def pageout() -> None:
            reports.append(child.process.pageout(ranges, measure=True))
            require_whole(reports[-1], size)

        settled = retry_until(
            pageout, lambda: child.process.swapped(ranges).total >= size - TOLERANCE
        )
        swapped = child.ask_int("status", "VmSwap")
        if not settled or swapped < size - TOLERANCE:
            raise AssertionError(f"VmSwap of {size} bytes is {swapped}")
        before, after = reports[0].before, reports[-1].after
        if before is None or after is None or after.rss > before.rss - size + TOLERANCE:
            raise AssertionError(f"Rss has not fallen: {before} -> {after}")
        remaining = reports[-1].remaining
        if remaining is None or remaining.resident > TOLERANCE:
            raise AssertionError(f"VmSwap is {swapped}, and the report {remaining}")
        child.require_intact(address, size)
    return f"VmSwap 0 -> {mib(swapped)}, Rss less by as much, memory intact"


@summary("Put a file that a child maps out of memory by PAGEOUT.")
def check_pageout_file(size: int) -> str:
    with Child() as child:
        child.require_permission(Advice.PAGEOUT)
    size = max(size // 4, SMALL)
    with _file_on_disk(size) as (fd, cached), Child() as child:
        # Page by page: readahead makes large folios, which 6.1 may fail to split.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for offset in range(0, size, PAGE_SIZE):
            os.pread(fd, 1, offset)
        address = child.ask_int("map", size, None, fd)
        before = cached()

        def pageout() -> None:
            # A call that covers a part of a folio may unmap it and leave it in the page
            # cache, out of the reach of PAGEOUT: reading the memory maps it again.
            child.require_intact(address, size)
            report = child.process.pageout([(address, size)], max_stall=None)
            require_whole(report, size)

        settled = retry_until(pageout, lambda: cached() <= TOLERANCE)
        after = cached()
        if before < size or not settled:
            raise AssertionError(f"of {size} bytes in memory {before} -> {after}")
        child.require_intact(address, size)
    return f"page cache {mib(before)} -> {mib(after)} of a file, contents intact"


@summary("Fill the page cache by WILLNEED, and the swap cache where that shows.")
def check_willneed(size: int) -> str:
    with Child() as child:
        child.require_permission(Advice.WILLNEED)
    size = max(size // 2, SMALL)
    with _file_on_disk(size) as (fd, cached), Child() as child:
        before = cached()
        address = child.ask_int("map_file", size, fd)

        # The disk may be slow: WILLNEED begins to read, and returns.
        if before or not retry_until(
            lambda: require_whole(child.process.willneed([(address, size)]), size),
            lambda: _reaches(size, cached),
            2,
        ):
            raise AssertionError(f"of {size} bytes in memory {before} -> {cached()}")
    return f"page cache 0 -> {mib(size)} of a file, {_willneed_swap(size)}"


def _willneed_swap(size: int) -> str:
    try:
        size = _size_for_swap(size)
    except Skip:
        return "swap cache not tried (no swap)"
    with Child() as child:
        address = child.map(size)

        def cached() -> int:
            return child.ask_int("in_core", address, size)

        child.process.pageout([(address, size)], max_stall=None)
        swapped = child.process.swapped(Ranges([(address, size)])).total
        before = cached()
        if swapped < size - TOLERANCE:
            return "swap cache not tried (PAGEOUT moved too little)"
        if before > size // 2:
            child.require_intact(address, size)
            return "swap cache not seen (this swap keeps pages in it anyway)"
        settled = retry_until(
            lambda: require_whole(child.process.willneed([(address, size)]), size),
            lambda: _reaches(size - TOLERANCE, cached),
            2,
        )
        after = cached()
        if not settled:
            raise AssertionError(f"of {size} in the swap cache {before} -> {after}")
        child.require_intact(address, size)
    return f"swap cache {mib(before)} -> {mib(after)}, memory intact"


@summary("Make huge pages of small ones by COLLAPSE.")
def check_collapse(size: int) -> str:
    with Child() as child:
        child.require_permission(Advice.COLLAPSE)
        huge = pmadvise.support().huge_page_size
        if huge is None:
            raise Skip("there are no transparent huge pages here")
        if huge > size:
            raise Skip(
                f"a huge page has {mib(huge)} here, more than --size: pass --size "
                f"{huge // MIB}, on a host with {mib(3 * huge)} of memory free"
            )
        # One more than the pages, so that they fit in aligned.
        pages = min(max(size // 4 // huge, 1), 4)
        start = child.ask_int("reserve", (pages + 1) * huge)
        address, size = -(-start // huge) * huge, pages * huge
        child.fill_small(address, size)

        def made() -> int:
            return child.smaps(address, size, "AnonHugePages")

        before, reports = made(), list[Report]()
        settled = retry_until(
            lambda: reports.append(child.process.collapse([(address, size)])),
            lambda: made() == size,
        )
        if before or not settled:
            _no_huge_page(reports[-1])
            raise AssertionError(
                f"AnonHugePages of {size} bytes {before} -> {made()}: {reports[-1]}"
            )
        child.require_intact(address, size)
    return f"AnonHugePages 0 -> {mib(size)}, memory intact"


def _no_huge_page(report: Report) -> None:
    """Skip where the kernel has no free huge page, or is set to make none."""
    errnos = {skip.errno for skip in report.skipped}
    if errnos and errnos <= {errno.ENOMEM, errno.EAGAIN, errno.EBUSY}:
        raise Skip(
            "the kernel finds no free huge page: memory is fragmented, or the cgroup "
            "is at its limit; free some, or echo 1 >/proc/sys/vm/compact_memory"
        )
    if errnos == {errno.EINVAL} and not host.huge_pages_enabled():
        raise Skip(
            "transparent huge pages are turned off: echo madvise "
            ">/sys/kernel/mm/transparent_hugepage/enabled"
        )


def _reaches(goal: int, measure: Callable[[], int]) -> bool:
    """Wait until a number is reached, as long as it grows: a read in the background."""
    size, since = measure(), time.monotonic()
    while size < goal:
        time.sleep(0.001)
        before, size = size, measure()
        if size > before:
            since = time.monotonic()
        elif time.monotonic() > since + _IDLE:
            return False
    return True


def _size_for_swap(size: int) -> int:
    """Return how many bytes may be swapped: all, or half of the free swap.

    Raises:
        Skip: Too little is free, or allowed.
    """
    support = pmadvise.support()
    if support.swap_free is None:
        raise Skip(str(support.swap))
    half = support.swap_free // 2
    if support.swap_allowed is not None and support.swap_allowed // 2 < half:
        half = support.swap_allowed // 2
        if half < SMALL:
            raise Skip(
                f"this cgroup may swap {mib(support.swap_allowed)} more, and "
                f"{mib(2 * SMALL)} are needed: raise its memory.swap.max (Kubernetes: "
                "memorySwap.swapBehavior: LimitedSwap)"
            )
    if half < SMALL:
        raise Skip(
            f"{mib(support.swap_free)} of swap are free, and {mib(2 * SMALL)} are "
            "needed to see an effect: turn swap on with swapon(8), a file or zram"
        )
    return min(size, half) & -PAGE_SIZE


@contextmanager
def _file_on_disk(size: int) -> Iterator[tuple[int, Callable[[], int]]]:
    """Make a file on a disk, out of memory; give it and how much of it is in memory."""
    directories = dict.fromkeys(
        [tempfile.gettempdir(), "/var/tmp", "/tmp", os.getcwd()]
    )
    why = []
    for directory in directories:
        try:
            fd = _new_file(directory, size)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            why.append(f"{directory}: {error.strerror}")
            continue
        with os.fdopen(fd, "rb"):
            view = map_memory(size, mmap.PROT_READ, fd)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                if not in_core(view, size):
                    yield fd, functools.partial(in_core, view, size)
                    return
            finally:
                libc.munmap(view, size)
        why.append(f"{directory}: its files stay in memory")
    raise Skip(
        f"no folder for a file of {mib(size)} on a disk ({'; '.join(why)}): set TMPDIR "
        "to one"
    )


def _new_file(directory: str, size: int) -> int:
    """Write a file that has no name; return its file descriptor."""
    with tempfile.TemporaryFile(dir=directory) as file:
        page = os.urandom(PAGE_SIZE)
        for offset in range(0, size, PAGE_SIZE):
            file.write(offset.to_bytes(8, "little") + page[8:])
        file.flush()
        os.fsync(file.fileno())
        return os.dup(file.fileno())
