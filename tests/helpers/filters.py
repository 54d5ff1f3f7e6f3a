"""Seccomp filters: system calls and ioctls that the kernel then seems to lack."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

PROCMAP_QUERY = 0xC0686611
"""An ioctl of Linux 6.11."""
PAGEMAP_SCAN = 0xC0606610
"""An ioctl of Linux 6.7."""

NR_PIDFD_OPEN, NR_PROCESS_MADVISE = 434, 440
"""On every architecture that the tests run on."""
_NR_IOCTL = {"x86_64": 16, "aarch64": 29, "riscv64": 29}.get(platform.machine(), 54)

# include/uapi/linux/filter.h, seccomp.h
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_RET_ERRNO, _RET_ALLOW = 0x00050000, 0x7FFF0000
_OFFSET_OF_NR, _OFFSET_OF_ARGUMENT_1 = 0, 24 + 4 * (platform.machine() == "s390x")
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38


def refuse_syscall(number: int, errno: int) -> None:
    """Let a seccomp filter answer `errno` to one system call of this thread."""
    _install(
        (_LOAD, 0, 0, _OFFSET_OF_NR),
        (_IF_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, _RET_ERRNO | errno),
        (_RETURN, 0, 0, _RET_ALLOW),
    )


def refuse_ioctl(request: int, number: int = errno.ENOTTY) -> None:
    """Let a seccomp filter answer an errno to one ioctl of this thread, for good."""
    _install(
        (_LOAD, 0, 0, _OFFSET_OF_NR),
        (_IF_EQUAL, 0, 3, _NR_IOCTL),
        (_LOAD, 0, 0, _OFFSET_OF_ARGUMENT_1),
        (_IF_EQUAL, 0, 1, request),
        (_RETURN, 0, 0, _RET_ERRNO | number),
        (_RETURN, 0, 0, _RET_ALLOW),
    )


def _install(*statements: tuple[int, int, int, int]) -> None:
    octets = b"".join(struct.pack("HBBI", *statement) for statement in statements)
    program = ctypes.create_string_buffer(octets)
    header = struct.pack("HxxxxxxP", len(statements), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    argument = ctypes.c_char_p(header)
    assert libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, argument, 0, 0) == 0


def without_ioctls(function: Callable[[], object], *requests: int) -> None:
    """Run `function` as on a kernel that lacks these ioctls (ENOTTY).

    In a thread of its own, as a filter is a thread's and ends with it.
    """

    def filtered() -> None:
        for request in requests:
            refuse_ioctl(request)
        function()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(filtered).result()


def run_test_without(test: pytest.Function, *requests: int) -> None:
    """Let the body of a test run without these ioctls; for fixtures."""
    body = test.obj
    test.obj = lambda **arguments: without_ioctls(lambda: body(**arguments), *requests)
