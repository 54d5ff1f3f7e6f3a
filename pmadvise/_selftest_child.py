"""The selftest's own processes: what they map, what they tell, how they end."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import select
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import pmadvise
from pmadvise import PAGE_SIZE, Advice

MIB = 1 << 20
ANSWER_WITHIN = 300.0
"""Seconds for a child to answer: emulated machines are slow."""
SETTLED = 64 * PAGE_SIZE
"""More than a CPU's batch of pages that are not yet on an LRU list (PAGEVEC_SIZE)."""
SIGNALS = signal.SIGHUP, signal.SIGINT, signal.SIGTERM

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_THP_DISABLE = 1, 4, 41

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
for _name in ("munmap", "mlock"):
    getattr(libc, _name).argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


class Skip(Exception):
    """A check can't be made here; the message says what is missing."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have signals wait, so that what is made is noted, and what is ended forgotten."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_to_close: list[Callable[[], None]] = []


def leave_nothing() -> None:
    """End the processes that are left, and remove the cgroups."""
    with uninterrupted():
        while _to_close:
            _to_close[-1]()


def checked(result: int | None, call: str) -> int:
    """Return what a function of libc did; raise OSError if it failed."""
    if result in (-1, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result or 0


def map_memory(size: int, protection: int, fd: int = -1) -> int:
    """Map memory of the calling process; return its address.

    Anonymous memory has a page on both sides that nobody may touch, so that it is a
    VMA of its own.
    """
    if fd >= 0:
        shared = libc.mmap(None, size, protection, mmap.MAP_SHARED, fd, 0)
        return checked(shared, "mmap")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    area = checked(libc.mmap(None, size + 2 * PAGE_SIZE, 0, flags, -1, 0), "mmap")
    checked(libc.mprotect(area + PAGE_SIZE, size, protection), "mprotect")
    return area + PAGE_SIZE


def in_core(address: int, size: int) -> int:
    """Return the bytes of own memory in the page or swap cache. Wraps mincore(2)."""
    pages = ctypes.create_string_buffer(-(-size // PAGE_SIZE))
    checked(libc.mincore(address, size, pages), "mincore")
    return sum(page & 1 for page in pages.raw[: -(-size // PAGE_SIZE)]) * PAGE_SIZE


class Child:
    """A forked process that maps and does what it is told to.

    It ends with the selftest, however that ends, and takes no signal of the terminal.
    """

    def __init__(self) -> None:
        to_child, self._command = os.pipe()
        self._answer, from_child = os.pipe()
        self._steps = mmap.mmap(-1, mmap.PAGESIZE)
        parent = os.getpid()
        with uninterrupted():
            self.pid = os.fork()
            if self.pid == 0:
                os.close(self._command)
                self._live(parent, to_child, from_child)
            _to_close.append(self.close)
        os.close(to_child)
        os.close(from_child)
        self.answer()  # it is as it should be, and may be looked at
        try:
            self.process = pmadvise.Process(self.pid)
        except OSError:
            self.close()
            answer = pmadvise.support().pidfd_open
            if answer or answer.refused_by == "build":
                raise
            raise Skip(str(answer)) from None

    def ask(self, name: str, *arguments: Any) -> Any:
        """Have the child call one of its functions; return what that returns."""
        os.write(self._command, json.dumps([name, *arguments]).encode() + b"\n")
        return self.answer()

    def answer(self) -> Any:
        """Return the next answer of the child."""
        text = b""
        while not text.endswith(b"\n"):
            if not select.select([self._answer], [], [], ANSWER_WITHIN)[0]:
                raise AssertionError(f"the child did not answer in {ANSWER_WITHIN} s")
            part = os.read(self._answer, 1 << 16)
            if not part:
                raise AssertionError("the child has died")
            text += part
        found = json.loads(text)
        if "errno" in found:
            raise OSError(found["errno"], found["error"])
        if "error" in found:
            raise AssertionError(f"the child says {found['error']}")
        return found["value"]

    def steps(self) -> int:
        """Return how many steps a child that counts has made."""
        return int.from_bytes(self._steps[:8], "little")

    def kill(self) -> None:
        """End the child, and leave it a zombie."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def close(self) -> None:
        """End the child and reap it; may be called again."""
        with uninterrupted():
            if self.close not in _to_close:
                return
            _to_close.remove(self.close)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            for fd in (self._command, self._answer):
                os.close(fd)
            self._steps.close()
            with suppress(AttributeError):  # interrupted before there was one
                self.process.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What follows runs in the child.

    def _live(self, parent: int, commands: int, answers: int) -> NoReturn:
        """Do what is asked, until told no more."""
        try:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # it is not, if the parent is not
            if os.getppid() == parent:
                self._answers, self._sums = answers, dict[int, int]()
                self._do("pid")
                with os.fdopen(commands) as lines:
                    for line in lines:
                        self._do(*json.loads(line))
        finally:
            os._exit(0)

    def _do(self, name: str, *arguments: Any) -> None:
        try:
            found = {"value": getattr(self, f"do_{name}")(*arguments)}
        except OSError as error:
            found = {"errno": error.errno, "error": error.strerror}
        except Exception as error:
            found = {"error": repr(error)}
        os.write(self._answers, json.dumps(found).encode() + b"\n")

    def do_map(self, size: int, fill: int | None = None, fd: int = -1) -> int:
        """Map memory, and write to the first `fill` bytes (all); return the address."""
        address = map_memory(size, mmap.PROT_READ | mmap.PROT_WRITE, fd)
        if fd >= 0:
            # Page by page: readahead makes large folios, which PAGEOUT of some kernels
            # (6.1) passes over, and of others only where a call covers all of one.
            checked(libc.madvise(address, size, Advice.RANDOM), "madvise")
            with _on_one_cpu():
                self._sums[address] = zlib.crc32(_bytes(address, size))
        else:
            self.do_fill(address, size if fill is None else fill)
        return address

    def do_map_file(self, size: int, fd: int) -> int:
        """Map a file that was open at the fork, touching nothing."""
        return map_memory(size, mmap.PROT_READ, fd)

    def do_reserve(self, size: int) -> int:
        """Map memory that nobody may touch; return the address."""
        return map_memory(size, 0)

    def do_fill(self, address: int, size: int) -> None:
        """Make memory accessible and write to each page, another thing to each."""
        checked(libc.mprotect(address, size, 3), "mprotect")
        page = os.urandom(64) * (PAGE_SIZE // 64)
        with _on_one_cpu():
            for offset in range(0, size, PAGE_SIZE):
                text = offset.to_bytes(8, "little") + page[8:]
                ctypes.memmove(address + offset, text, PAGE_SIZE)
        if size:
            self._sums[address] = zlib.crc32(_bytes(address, size))

    def do_fill_small(self, address: int, size: int) -> None:
        """Fill with pages that are not huge."""
        checked(libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0), "PR_SET_THP_DISABLE")
        self.do_fill(address, size)
        checked(libc.prctl(_PR_SET_THP_DISABLE, 0, 0, 0, 0), "PR_SET_THP_DISABLE")

    def do_intact(self, address: int, size: int) -> bool:
        """Tell whether the memory is what it was when it was mapped or filled."""
        return zlib.crc32(_bytes(address, size)) == self._sums[address]

    def do_unmap(self, address: int, size: int) -> None:
        """Unmap memory."""
        checked(libc.munmap(address, size), "munmap")

    def do_lock(self, address: int, size: int) -> None:
        """Lock memory."""
        checked(libc.mlock(address, size), "mlock")

    def do_in_core(self, address: int, size: int) -> int:
        """Return in_core()."""
        return in_core(address, size)

    def do_status(self, name: str) -> int:
        """Return a size of /proc/self/status, in bytes."""
        with open("/proc/self/status") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key == name:
                    return int(value.split()[0]) * 1024
        raise KeyError(name)

    def do_smaps(self, address: int, size: int, name: str) -> int:
        """Return the bytes that smaps has under `name` for the VMAs in a range."""
        total, inside = 0, False
        with open("/proc/self/smaps") as file:
            for line in file:
                first = line.split(None, 1)[0]
                if not first.endswith(":"):
                    start, end = (int(part, 16) for part in first.split("-"))
                    inside = address <= start and end <= address + size
                elif inside and first == f"{name}:":
                    total += int(line.split()[1]) * 1024
        return total

    def do_advise_self(self, address: int, size: int, advice: int) -> int:
        """Advise the own memory."""
        pidfd = pmadvise.pidfd_open(os.getpid())
        return pmadvise.process_madvise(pidfd, [(address, size)], Advice(advice))

    def do_count(self) -> None:
        """Count steps for ever."""
        os.write(self._answers, b'{"value": null}\n')
        for step in range(1 << 62):
            self._steps[:8] = step.to_bytes(8, "little")
            time.sleep(0.0002)

    def do_exec(self) -> None:
        """Become another program, that answers once and waits."""
        os.set_inheritable(self._answers, True)
        code = f"import os, time; os.write({self._answers}, b'{{\"value\": 1}}\\n'); "
        program = sys.executable or "/proc/self/exe"
        os.execv(program, [program, "-ISc", code + "time.sleep(3600)"])

    def do_as(self, user: int, name: str, *arguments: Any) -> Any:
        """Become another user, without capabilities, and then do something."""
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        checked(libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "PR_SET_DUMPABLE")
        return getattr(self, f"do_{name}")(*arguments)

    def do_pid(self) -> int:
        """Return the process ID."""
        return os.getpid()

    def do_check(self, pid: int, advice: int) -> dict[str, Any]:
        """Return what support() and check() say about advising a process."""
        with pmadvise.Process(pid) as process:
            said = pmadvise.support(process).target
            assert said is not None
            try:
                process.check(advice)
            except OSError as error:
                return {"errno": error.errno, "said": said.may.errno}
        return {"errno": 0, "said": said.may.errno or 0}


def _bytes(address: int, size: int) -> Any:
    return (ctypes.c_char * size).from_address(address)


@contextmanager
def _on_one_cpu() -> Iterator[None]:
    """Touch pages on one CPU, and more of them after: so all are on an LRU list.

    COLD and PAGEOUT pass over what still waits in a CPU's batch for its list.
    """
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield
        with mmap.mmap(-1, SETTLED) as scratch:
            for offset in range(0, SETTLED, PAGE_SIZE):
                scratch[offset] = 1
    finally:
        os.sched_setaffinity(0, cpus)


@contextmanager
def cgroup_for(pid: int, directory: str, name: str) -> Iterator[str]:
    """Make a cgroup for a child in that of this process, and leave nothing of it."""
    path = os.path.join(directory, f"{name}-{os.getpid()}")

    def remove() -> None:
        with uninterrupted():
            if remove in _to_close:
                _to_close.remove(remove)
                _remove_cgroup(path, directory, pid)

    try:
        with uninterrupted():
            os.mkdir(path)
            _to_close.append(remove)
        with open(os.path.join(path, "cgroup.procs"), "w") as file:
            file.write(str(pid))
    except OSError as error:
        remove()
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise Skip(
            f"no cgroup can be made in {directory} ({error.strerror}): run as root, "
            "with the cgroups mounted read-write, or have the cgroup delegated"
        ) from None
    try:
        yield path
    finally:
        remove()


def _remove_cgroup(path: str, parent: str, pid: int) -> None:
    with suppress(OSError), open(os.path.join(parent, "cgroup.procs"), "w") as file:
        file.write(str(pid))
    deadline = time.monotonic() + 10
    while True:
        try:
            return os.rmdir(path)
        except FileNotFoundError:
            return None
        except OSError:  # EBUSY: whoever was in it has not wholly left
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
