"""The program of a Target: it evaluates the lines it is sent; needs no package.

Addresses and sizes are bytes. The functions here are the words of the tests. It is
started by most tests, and so imports nothing that takes long: neither `collections` nor
`signal` nor `threading`.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PAGE = mmap.PAGESIZE
NONE, READ, WRITE, EXEC = 0, 1, 2, 4
MAP_FAILED = ctypes.c_void_p(-1).value
SHARED, PRIVATE, FIXED, ANONYMOUS = 0x1, 0x2, 0x10, 0x20
NORESERVE, HUGETLB = 0x4000, 0x40000
PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_THP_DISABLE = 4, 15, 41
NR_IO_URING_SETUP, NR_IO_URING_REGISTER, IORING_REGISTER_BUFFERS = 425, 427, 0
PR_SET_VMA, PR_SET_VMA_ANON_NAME = 0x53564D41, 0

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.sbrk.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
libc.sbrk.argtypes = [ctypes.c_long]
for name in ("munmap", "mlock", "mprotect", "madvise"):
    getattr(libc, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def checked(result: int) -> int:
    """Return the result of a function of libc, or raise OSError."""
    if result in (-1, MAP_FAILED):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def map(
    size: int, prot: int = READ | WRITE, flags: int = PRIVATE | ANONYMOUS, fd: int = -1
) -> int:
    """Map memory, or a file from its beginning."""
    if fd >= 0:
        return checked(libc.mmap(None, size, prot, flags, fd, 0))
    # between two pages that nobody may touch, so that it is a VMA of its own
    area = checked(libc.mmap(None, size + 2 * PAGE, NONE, flags, fd, 0))
    protect(area + PAGE, size, prot)
    return area + PAGE


def reserve(size: int) -> int:
    """Map memory without reserving any swap for it."""
    return map(size, flags=PRIVATE | ANONYMOUS | NORESERVE)


def memfd(name: bytes, size: int) -> int:
    """Return an open memfd of some bytes."""
    fd = checked(libc.memfd_create(name, 0))
    os.ftruncate(fd, size)
    return fd


def map_at(
    address: int,
    size: int,
    prot: int = READ | WRITE,
    flags: int = PRIVATE | ANONYMOUS,
    fd: int = -1,
    offset: int = 0,
) -> int:
    """Map over what is at an address."""
    return checked(libc.mmap(address, size, prot, flags | FIXED, fd, offset))


def pattern(size: int) -> bytes:
    """Return what fill() writes."""
    return (b"pmadvise" * (size // 8 + 1))[:size]


def fill(address: int, size: int) -> None:
    """Write to each byte."""
    ctypes.memmove(address, pattern(size), size)


def intact(address: int, size: int) -> bool:
    """Return whether memory has what fill() wrote."""
    return ctypes.string_at(address, size) == pattern(size)


def filled(size: int, **options: int) -> int:
    """Map memory and write to each byte."""
    address = map(size, **options)
    fill(address, size)
    return address


def touch(address: int, numbers: Iterable[int]) -> None:
    """Write a byte to each of these pages of an area."""
    for number in numbers:
        ctypes.memset(address + number * PAGE, 1, 1)


def look(address: int, numbers: Iterable[int]) -> None:
    """Read a byte of each of these pages of an area."""
    for number in numbers:
        ctypes.string_at(address + number * PAGE, 1)


def pin(address: int, size: int) -> None:
    """Pin memory for good, as a buffer of an io_uring. Wraps io_uring_register(2)."""
    ring = checked(libc.syscall(NR_IO_URING_SETUP, 1, ctypes.create_string_buffer(120)))
    element = (ctypes.c_size_t * 2)(address, size)
    checked(
        libc.syscall(NR_IO_URING_REGISTER, ring, IORING_REGISTER_BUFFERS, element, 1)
    )


def unmap(address: int, size: int) -> None:
    """Unmap memory."""
    checked(libc.munmap(address, size, 0))


def lock(address: int, size: int) -> None:
    """Lock memory."""
    checked(libc.mlock(address, size, 0))


def protect(address: int, size: int, prot: int) -> None:
    """Set permissions."""
    checked(libc.mprotect(address, size, prot))


def madvise(address: int, size: int, advice: int) -> None:
    """Advise this process itself."""
    checked(libc.madvise(address, size, advice))


def grow_heap(size: int) -> int:
    """Move the end of the heap, and return where it is then."""
    checked(libc.sbrk(size))
    end: int = libc.sbrk(0)
    return end


def thread(function: Callable[..., object] = libc.pause, *arguments: object) -> int:
    """Start a thread, which does nothing by default; return its ID."""
    tids: list[int] = []
    started = _thread.allocate_lock()
    started.acquire()

    def run() -> None:
        tids.append(_thread.get_native_id())
        started.release()
        function(*arguments)

    _thread.start_new_thread(run, ())
    started.acquire()
    return tids[0]


def forever(function: Callable[[], object]) -> None:
    """Call a function again and again in a thread, until `stop` is acquired."""

    def loop() -> None:
        while not stop.locked():
            function()

    thread(loop)


def prctl(option: int, *arguments: int | bytes) -> None:
    """Set an attribute of this process, by the system call of that name."""
    words = [a if isinstance(a, bytes) else ctypes.c_ulong(a) for a in arguments]
    checked(libc.prctl(option, *words, *[ctypes.c_ulong(0)] * (4 - len(words))))


def become(user: int) -> None:
    """Give up root for good, and be dumpable all the same."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    prctl(PR_SET_DUMPABLE, 1)


def name_memory(address: int, size: int, name: bytes) -> None:
    """Name anonymous memory."""
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, size, name)


def fill_small_pages(address: int, size: int) -> None:
    """Write to each byte of memory without making huge pages."""
    prctl(PR_SET_THP_DISABLE, 1)  # khugepaged passes over this process as well
    fill(address, size)
    prctl(PR_SET_THP_DISABLE, 0)


def fork() -> int:
    """Make a child that does nothing; return its ID."""
    pid = os.fork()
    if pid == 0:
        libc.pause()
        os._exit(0)
    return pid


stop = _thread.allocate_lock()
_namespace = dict(globals(), time=time)

print("ready", flush=True)
for line in sys.stdin:
    code = eval(line)
    try:
        try:
            value = eval(code, _namespace)
        except SyntaxError:
            exec(code, _namespace)
            value = None
        print(repr((True, value)), flush=True)
    except Exception as error:
        print(repr((False, repr(error))), flush=True)
