"""What pmadvise is measured against: the same calls, written by hand.

C programs are the limit, the functions of `bare.c` called through cffi the floor of an
extension of cffi, `unchecked.c` is an extension of CPython; ctypes and psutil are what
people use today. Nothing of it checks an argument.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import os
import struct
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from types import ModuleType

import cffi
import psutil

SOURCES = Path(__file__).parent
SYSCALL = 440
CALL_MAX = 1024

OneRange = Callable[[int, int, int, int], int]
"""Advises one range: (pidfd, address, length, advice), returns bytes."""


def program(stack: ExitStack, name: str) -> Path:
    """Compile NAME.c, a program, and return its path."""
    path = _folder(stack) / name
    _compile(SOURCES / f"{name}.c", path)
    return path


def unchecked(stack: ExitStack) -> ModuleType:
    """Compile and import the extension of CPython."""
    path = _folder(stack) / "unchecked.so"
    _compile(SOURCES / "unchecked.c", path, "-shared", "-fPIC", _python_headers())
    return _imported(path)


def bare_cffi(stack: ExitStack) -> OneRange:
    """Compile and import the extension of cffi, in API mode; return its function."""
    folder, source = _folder(stack), (SOURCES / "bare.c").read_text()
    ffi = cffi.FFI()
    ffi.cdef("long range(int pidfd, uintptr_t address, size_t length, int advice);")
    ffi.set_source("bare", source)
    with redirect_stdout(io.StringIO()):  # it prints
        ffi.emit_c_code(str(folder / "bare_ffi.c"))
    path = folder / "bare.so"
    _compile(folder / "bare_ffi.c", path, "-shared", "-fPIC", _python_headers())
    function: OneRange = _imported(path).lib.range
    return function


class IOVec(ctypes.Structure):
    """A ``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


LIBC = ctypes.CDLL(None, use_errno=True)


def range_with_ctypes(pidfd: int, address: int, length: int, advice: int) -> int:
    """Advise one range."""
    iov = IOVec(address, length)
    one = ctypes.c_size_t(1)
    return _checked(
        LIBC.syscall(SYSCALL, pidfd, ctypes.byref(iov), one, int(advice), 0)
    )


def vector_with_ctypes(
    pidfd: int, ranges: Iterable[tuple[int, int]], advice: int
) -> int:
    """Advise ranges, as many as a call takes."""
    pairs = list(ranges)
    vector = (IOVec * len(pairs))(*(IOVec(*pair) for pair in pairs))
    n = ctypes.c_size_t(len(pairs))
    return _checked(LIBC.syscall(SYSCALL, pidfd, vector, n, int(advice), 0))


def _checked(advised: int) -> int:
    if advised < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return advised


def ranges_with_psutil(pid: int, resident: bool = False) -> list[tuple[int, int]]:
    """Return the private anonymous mappings of a process.

    Args:
        pid: Of the process.
        resident: Only those that have memory.
    """
    chosen = []
    for one in psutil.Process(pid).memory_maps(grouped=False):
        if one.path not in ("[anon]", "[heap]", "[stack]") or one.perms[-1] != "p":
            continue
        if resident and not one.anonymous:
            continue
        start, end = (int(part, 16) for part in one.addr.split("-"))
        chosen.append((start, end - start))
    return chosen


def advise_with_psutil(pid: int, advice: int, resident: bool = False) -> None:
    """Advise the private anonymous memory of a process, with psutil and ctypes."""
    pidfd = os.pidfd_open(pid)
    chosen = ranges_with_psutil(pid, resident)
    for i in range(0, len(chosen), CALL_MAX):
        vector_with_ctypes(pidfd, chosen[i : i + CALL_MAX], advice)
    os.close(pidfd)


def packed(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Return ranges as a vector of the kernel's."""
    return b"".join(struct.pack("@NN", *pair) for pair in ranges)


def closing(stack: ExitStack, fd: int) -> int:
    """Have a file descriptor closed at the end, and return it."""
    stack.callback(os.close, fd)
    return fd


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


def _python_headers() -> str:
    return f"-I{sysconfig.get_path('include')}"


def _compile(source: Path, out: Path, *options: str) -> None:
    subprocess.run(["cc", "-O2", *options, source, "-o", out], check=True)


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
