"""Constants, memory for arrays, and the check of a result."""

from __future__ import annotations

import os
import struct
import sys

try:
    from pmadvise._ffi import ffi, lib
except ModuleNotFoundError as error:
    if error.name != "pmadvise._ffi":
        raise
    if sys.implementation.name != "cpython":
        why = f"pmadvise needs CPython: it does not work on {sys.implementation.name}"
    else:
        why = (
            "pmadvise._ffi is not built for this Python in "
            f"{os.path.dirname(os.path.dirname(__file__))}: if these are the sources, "
            "start Python elsewhere to use the installed package, or pip install -e ."
        )
    raise ImportError(why, name=error.name) from None

TYPE_CHECKING = False  # to import typing takes longer than all the rest
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

PAGE_SIZE: int = os.sysconf("SC_PAGESIZE")
"""Bytes in a page of this machine."""
IOV_MAX: int = 1024
"""The most ranges that one process_madvise(2) takes (UIO_MAXIOV)."""
MAX_RW_COUNT: int = 0x7FFFFFFF & -PAGE_SIZE
"""The most bytes that one process_madvise(2) takes (include/linux/fs.h)."""
ADDRESS_MAX: int = (1 << 8 * struct.calcsize("P")) - 1
"""The last address."""
AT_FDCWD: int = -100
"""For the file descriptor of a directory: the path is absolute (linux/fcntl.h)."""

NULL: Any = ffi.NULL

uninitialized: Any = ffi.new_allocator(should_clear_after_alloc=False)
"""Allocate as ffi.new() does, without writing zeros first."""


_originals: dict[ModuleType, Any] = {}  # functools takes as long to load as the rest


def original(module: ModuleType) -> Any:
    """Return our copy of a C module, as gevent and eventlet have not patched it.

    Both replace functions in `_thread`, `select` and `time`, and remove some: by then a
    new thread is a greenlet, which does not run while C code waits for it.
    """
    copy = _originals.get(module)
    if copy is None:
        spec: Any = module.__spec__
        copy = spec.loader.create_module(spec)
        spec.loader.exec_module(copy)
        _originals[module] = copy
    return copy


def check(result: int, call: str) -> int:
    """Return the result of a C function; raise OSError if it is -errno."""
    if result < 0:
        raise OSError(-result, f"{call}: {os.strerror(-result)}")
    return result


def grown(cdecl: str, old: Any, used: int, capacity: int) -> Any:
    """Return a larger array with the first `used` elements of an old one."""
    array = uninitialized(f"{cdecl}[]", capacity)
    ffi.memmove(array, old, ffi.sizeof(cdecl) * used)
    return array


__all__ = [
    "ADDRESS_MAX",
    "AT_FDCWD",
    "IOV_MAX",
    "MAX_RW_COUNT",
    "NULL",
    "PAGE_SIZE",
    "check",
    "ffi",
    "grown",
    "lib",
    "original",
    "uninitialized",
]
