"""csrc/maps.c: the text of /proc/PID/maps as an array, and questions to it."""

from __future__ import annotations

from pmadvise._native.base import NULL, check, ffi, grown, lib, uninitialized
from pmadvise._native.ranges import RangeArray
from pmadvise._native.read import Text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIRST_SIZE, _FIRST_VMAS, _GROWTH = 1 << 16, 1 << 9, 8

VMA_READABLE: int = lib.PMADVISE_VMA_READABLE
VMA_WRITABLE: int = lib.PMADVISE_VMA_WRITABLE
VMA_EXECUTABLE: int = lib.PMADVISE_VMA_EXECUTABLE
VMA_SHARED: int = lib.PMADVISE_VMA_SHARED
VMA_ANONYMOUS: int = lib.PMADVISE_VMA_ANONYMOUS


class VmaArray:
    """A native ``struct pmadvise_vma[]``, by address, with the text it is of."""

    __slots__ = ("cdata", "n", "text")

    def __init__(self, cdata: Any, n: int, text: Text) -> None:
        self.cdata, self.n, self.text = cdata, n, text

    def __len__(self) -> int:
        return self.n

    @classmethod
    def empty(cls) -> VmaArray:
        """Return an array of no VMAs: those of an mm that is no more."""
        return cls(uninitialized("struct pmadvise_vma[]", 0), 0, Text.of(b""))

    @classmethod
    def read(cls, fd: int) -> VmaArray:
        """Read and parse an open /proc/PID/maps.

        Raises:
            OSError: ESRCH, its process has gone; EBADMSG, it is something else.
        """
        size, capacity = _FIRST_SIZE, _FIRST_VMAS
        text = uninitialized("char[]", size)
        vmas = uninitialized("struct pmadvise_vma[]", capacity)
        state = ffi.new("struct pmadvise_maps_state *")
        while True:
            done = lib.pmadvise_maps_read(fd, text, size, vmas, capacity, state)
            if check(done, "maps"):
                return cls(vmas, state.n, Text(text, state.used))
            if state.used == size:
                size *= _GROWTH
                text = grown("char", text, state.used, size)
            if state.n == capacity:
                capacity *= _GROWTH
                vmas = grown("struct pmadvise_vma", vmas, state.n, capacity)

    def get(self, index: int) -> tuple[int, int, int, int, int, int, int, bytes]:
        """Return the fields of one VMA; the path as maps has it, escapes and all."""
        vma = self.cdata[index]
        return (
            vma.start,
            vma.end,
            vma.flags,
            vma.offset,
            vma.major,
            vma.minor,
            vma.inode,
            self.text.part(vma.path, vma.path_length),
        )

    def select(
        self,
        mask: int = 0,
        flags: int = 0,
        min_length: int = 0,
        pattern: bytes | None = None,
    ) -> RangeArray:
        """Return the ranges of the VMAs that have these flags, length and path."""
        scratch = NULL
        if pattern is not None:
            scratch = uninitialized("char[]", self.text.size + 1)
        out = uninitialized("struct pmadvise_range[]", self.n)
        n = lib.pmadvise_vmas_select(
            self.cdata,
            self.n,
            self.text.cdata,
            mask,
            flags,
            min_length,
            NULL if pattern is None else pattern,
            scratch,
            out,
        )
        return RangeArray(out, n)

    def changed(self, now: VmaArray) -> RangeArray:
        """Return the ranges that are not the same VMA in `now`."""
        out = uninitialized("struct pmadvise_range[]", self.n + now.n)
        n = lib.pmadvise_vmas_changed(
            self.cdata,
            self.n,
            self.text.cdata,
            now.cdata,
            now.n,
            now.text.cdata,
            out,
        )
        return RangeArray(out, n)

    def cut(self, array: RangeArray) -> tuple[RangeArray, bytes]:
        """Return ranges cut at VMA boundaries, and a byte each: is it mapped?"""
        n = lib.pmadvise_vmas_cut(self.cdata, self.n, array.cdata, array.n, NULL, NULL)
        out = uninitialized("struct pmadvise_range[]", n)
        mapped = uninitialized("unsigned char[]", n)
        lib.pmadvise_vmas_cut(self.cdata, self.n, array.cdata, array.n, out, mapped)
        return RangeArray(out, n), bytes(ffi.buffer(mapped, n))
