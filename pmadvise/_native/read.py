"""csrc/read.c: the contents of a file of /proc, and the numbers of status and stat."""

from __future__ import annotations

import os
import struct

from pmadvise._native.base import AT_FDCWD, ffi, lib, uninitialized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SMALL = 1 << 13
_STATUS = struct.Struct("@I2i10Q65p0Q")
"""A struct pmadvise_status; the name has its length before it."""


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


def read_file(path: str, directory: int = AT_FDCWD) -> bytes:
    """Return the contents of a file, in one call for small ones.

    Args:
        path: Of the file; relative to `directory` if that is given.
        directory: An open file descriptor.

    Raises:
        OSError: It can't be read.
    """
    capacity = _SMALL
    while True:
        buffer = uninitialized("char[]", capacity)
        n = lib.pmadvise_read_file(directory, os.fsencode(path), buffer, capacity)
        if n < 0:
            raise OSError(-n, os.strerror(-n), path)
        if n < capacity:
            return bytes(ffi.buffer(buffer, n))
        capacity *= 8


def status_read(
    proc: int,
) -> tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, bytes]:
    """Return the fields of a struct pmadvise_status, of a /proc/PID directory.

    At once: one by one they take longer than the system calls.

    Raises:
        OSError: ENOENT or ESRCH, it has gone.
    """
    status = ffi.new("struct pmadvise_status *")
    error = lib.pmadvise_status_read(proc, status)
    if error < 0:
        raise OSError(-error, os.strerror(-error))
    return _STATUS.unpack(ffi.buffer(status))
