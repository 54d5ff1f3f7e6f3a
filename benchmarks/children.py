"""Child processes to measure: forked, filled with memory, and killed at the end."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from pmadvise import PAGE_SIZE

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
)
LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MAP_NORESERVE = 0x4000
PR_SET_PDEATHSIG = 1
RESERVED_AT_ONCE = 10 << 40
MAP_FAILED = ctypes.c_void_p(-1).value


class Child:
    """A child that runs a function until it is killed.

    It is a new interpreter, for what the parent has in memory to play no part.

    Args:
        stack: Kills it at the end.
        life: Is called in the child, with a connection and `arguments`; what it sends
            first is `.hello`.
        arguments: Those that follow.
    """

    def __init__(
        self, stack: ExitStack, life: Callable[..., None], *arguments: int
    ) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_live, args=(life, theirs, os.getpid(), arguments), daemon=True
        )
        stack.callback(self._end)
        self._process.start()
        theirs.close()
        self.hello: Any = self._connection.recv()

    @property
    def pid(self) -> int:
        """The process ID."""
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, message: str) -> None:
        """Send the child a message."""
        self._connection.send(message)

    def hear(self) -> Any:
        """Wait for a message of the child."""
        return self._connection.recv()

    def ask(self, message: str) -> Any:
        """Send a message, return the answer."""
        self.tell(message)
        return self.hear()

    def _end(self) -> None:
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self._connection.close()


def _live(
    life: Callable[..., None],
    connection: Connection,
    parent: int,
    arguments: tuple[int, ...],
) -> None:
    """Run the child, until the parent kills it or has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent's
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    with suppress(EOFError):
        life(connection, *arguments)


def sleeper(stack: ExitStack) -> int:
    """Start a small process that sleeps until the stack ends; return its ID."""
    one = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    stack.callback(one.wait)
    stack.callback(one.kill)
    return one.pid


def mapped(size: int, flags: int = PRIVATE) -> int:
    """Map memory that can be written, and return its address."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = LIBC.mmap(None, size, protection, flags, -1, 0)
    if address == MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap: {os.strerror(number)}")
    return int(address)


def filled(connection: Connection, size: int) -> None:
    """Live with memory half of which is random, so that it compresses as most does.

    `.hello` is its address. "read" reads all of it, "write" writes to each page, "maps"
    calls mmap(2) and munmap(2) until "stop" and answers with the seconds of the longest
    such pair.
    """
    address = mapped(size)
    page = (os.urandom(512) + bytes(512)) * (PAGE_SIZE // 1024)
    for at in range(address, address + size, PAGE_SIZE):
        ctypes.memmove(at, page, PAGE_SIZE)
        ctypes.c_uint64.from_address(at).value = at  # no two are alike
    connection.send(address)
    while True:
        message = connection.recv()
        pages = range(address, address + size, PAGE_SIZE)
        if message == "read":
            connection.send(sum(ctypes.c_uint8.from_address(at).value for at in pages))
        elif message == "write":
            for at in pages:
                ctypes.c_uint64.from_address(at).value = at
            connection.send("written")
        elif message == "maps":
            connection.send("begun")
            connection.send(_longest_mmap(connection))


def _longest_mmap(connection: Connection) -> float:
    longest = 0.0
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    told = select.poll()
    told.register(connection.fileno(), select.POLLIN)
    while not told.poll(0):
        begin = perf_counter()
        LIBC.munmap(LIBC.mmap(None, PAGE_SIZE, protection, PRIVATE, -1, 0), PAGE_SIZE)
        longest = max(longest, perf_counter() - begin)
    connection.recv()
    return longest


def mappings(connection: Connection, n: int) -> None:
    """Live with `n` mappings of a page each, all of which was touched."""
    address = mapped(n * PAGE_SIZE)
    for i in range(n):
        at = address + i * PAGE_SIZE
        ctypes.memset(at, 1, 1)
        if i % 2:  # another protection, so that neighbours do not merge
            LIBC.mprotect(at, PAGE_SIZE, mmap.PROT_READ)
    connection.send(address)
    signal.pause()


def reserving(connection: Connection, size: int, used: int) -> None:
    """Live with `size` reserved bytes, and `used` bytes that are in memory."""
    memory = mapped(used)
    ctypes.memset(memory, 1, used)
    # in parts, as the program lies in the midst of the addresses
    for at in range(0, size, RESERVED_AT_ONCE):
        mapped(min(size - at, RESERVED_AT_ONCE), PRIVATE | MAP_NORESERVE)
    connection.send(memory)
    signal.pause()
