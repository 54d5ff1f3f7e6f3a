"""Which pages of a file are in the page cache."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from helpers.waiting import until


def resident_pages(view: mmap.mmap) -> int:
    """Count the pages of a file that are in the page cache. Wraps mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    anchor = ctypes.c_char.from_buffer(view)
    states = ctypes.create_string_buffer(len(view) // mmap.PAGESIZE)
    address = ctypes.c_void_p(ctypes.addressof(anchor))
    assert libc.mincore(address, ctypes.c_size_t(len(view)), states) == 0
    del anchor
    return sum(byte & 1 for byte in states.raw[:-1]) + (states.raw[-1] & 1)


@contextlib.contextmanager
def uncached_file(path: Path, size: int) -> Iterator[mmap.mmap]:
    """Write a file, and give a mapping of it of which no page is in the cache."""
    path.write_bytes(os.urandom(size))
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), size) as view:
            assert resident_pages(view) == 0
            yield view


def wait_until_read(view: mmap.mmap) -> None:
    """Return once the disk has read all of a file."""
    n_pages = len(view) // mmap.PAGESIZE
    until(lambda: resident_pages(view) == n_pages, "the file is in the page cache")
