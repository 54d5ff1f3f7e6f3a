"""csrc/read.c: the contents of a file of /proc, as native memory."""

from __future__ import annotations

from typing import Any

from pmadvise._native.base import check, ffi, grown, lib, uninitialized

_FIRST = 1 << 18


class Text:
    """Native bytes, which need not be a Python object."""

    __slots__ = ("cdata", "size")

    def __init__(self, cdata: Any, size: int) -> None:
        self.cdata, self.size = cdata, size

    @classmethod
    def of(cls, octets: bytes) -> Text:
        """Return a copy of Python's bytes."""
        text = uninitialized("char[]", len(octets))
        ffi.memmove(text, octets, len(octets))
        return cls(text, len(octets))

    def part(self, start: int, length: int) -> bytes:
        """Return some of it as Python's bytes."""
        return bytes(ffi.buffer(self.cdata + start, length))


def read_text(fd: int) -> Text:
    """Return the contents of an open file, from its beginning.

    Raises:
        OSError: ESRCH, the process of this file has gone.
    """
    capacity, used = _FIRST, 0
    text = uninitialized("char[]", capacity)
    while True:
        room = capacity - used
        used += check(lib.pmadvise_pread(fd, text + used, room, used), "pread")
        if used < capacity:
            return Text(text, used)
        capacity *= 4
        text = grown("char", text, used, capacity)
