"""With how many others a process shares memory: pagemap(5), /proc/kpagecount."""

from __future__ import annotations

import os
import struct
from contextlib import closing, suppress

from pmadvise._handle.identity import Identity
from pmadvise._handle.mm import open_mm
from pmadvise._native.base import PAGE_SIZE
from pmadvise.advice import Advice
from pmadvise.command.selection import Selection
from pmadvise.process import Process
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap

_SAMPLES = 64
_FRAME = (1 << 55) - 1  # bits of an entry of pagemap that have the page frame number
_ENTRY = struct.Struct("@Q")


def sharers(process: Process, selection: Selection) -> int | None:
    """Return how many others map what a process shares; of a sample of its pages.

    Args:
        process: The process.
        selection: Which of its memory.

    Returns:
        The most that a page has; None where the kernel does not tell: it shows the
        numbers of page frames to root alone.
    """
    counts = []
    with suppress(OSError, struct.error), closing(Identity.of_pidfd(process)) as found:
        mm = open_mm(found)
        if selection.is_default:
            selection = Selection(anon=True)
        ranges = selection.of(process, Advice.PAGEOUT)
        with Pagemap(mm) as pagemap:
            shared = pagemap.shared(pagemap.resident(ranges))
        entries = mm.open_file("pagemap")
        try:
            counts = _counts(entries.fd, shared)
        finally:
            entries.close()
    return max(counts) - 1 if counts and max(counts) > 1 else None


def _counts(entries: int, shared: Ranges) -> list[int]:
    """Return how often some pages are mapped."""
    found = []
    fd = os.open("/proc/kpagecount", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for address, _ in shared[:: max(len(shared) // _SAMPLES, 1)]:
            entry = os.pread(entries, _ENTRY.size, address // PAGE_SIZE * _ENTRY.size)
            frame = _ENTRY.unpack(entry)[0] & _FRAME
            if frame:
                count = os.pread(fd, _ENTRY.size, frame * _ENTRY.size)
                found.append(_ENTRY.unpack(count)[0])
    finally:
        os.close(fd)
    return found
