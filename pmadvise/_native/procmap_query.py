"""csrc/procmap_query.c: the ioctl PROCMAP_QUERY, Linux 6.11."""

from __future__ import annotations

from pmadvise._native.base import check, ffi, grown, lib, uninitialized
from pmadvise._native.maps import VmaArray
from pmadvise._native.ranges import RangeArray
from pmadvise._native.read import Text

_FIRST = 256


def procmap_query(maps_fd: int) -> int:
    """Ask whether the mm of an open maps file lives: 0, or -errno (ENOTTY: too old)."""
    return lib.pmadvise_procmap_query(maps_fd)


def procmap_vmas(maps_fd: int, merged: RangeArray) -> VmaArray:
    """Return start and end of the VMAs that merged ranges touch.

    Raises:
        OSError: ENOTTY, the kernel is too old; ESRCH, the mm is gone.
    """
    index, address = ffi.new("size_t *"), ffi.new("uintptr_t *")
    capacity, n = _FIRST, 0
    vmas = uninitialized("struct pmadvise_vma[]", capacity)
    while index[0] < merged.n:
        if n == capacity:
            capacity *= 4
            vmas = grown("struct pmadvise_vma", vmas, n, capacity)
        result = lib.pmadvise_procmap_vmas(
            maps_fd,
            merged.cdata,
            merged.n,
            index,
            address,
            vmas + n,
            capacity - n,
        )
        n += check(result, "PROCMAP_QUERY")
    return VmaArray(vmas, n, Text.of(b""))
