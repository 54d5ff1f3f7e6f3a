"""Processes to advise: what they map is said by the test, line by line."""

from __future__ import annotations

import ast
import ctypes
import os
import pickle
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pmadvise

PAGE = pmadvise.PAGE_SIZE
MIB = 1 << 20
NOBODY = 65534

# Pages touched last wait in a CPU's batch (PAGEVEC_SIZE) before they are on an LRU
# list, and COLD and PAGEOUT pass over what is not: mm/madvise.c, folio_test_lru().
LRU_BATCH = 31 * PAGE

T = TypeVar("T")

# What a target can be asked to do; addresses and sizes are bytes.
_PROGRAM = r"""
import ctypes, mmap, os, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                      ctypes.c_int, ctypes.c_long]
for name in ("munmap", "mlock", "mprotect", "madvise"):
    getattr(libc, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

def checked(result):
    if result == -1 or result == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

PAGE = mmap.PAGESIZE

def map(size, prot=3, flags=0x22, fd=-1):
    if fd >= 0:
        return checked(libc.mmap(None, size, prot, flags, fd, 0))
    # between two pages that nobody may touch, so that it is a VMA of its own
    area = checked(libc.mmap(None, size + 2 * PAGE, 0, flags, fd, 0))
    protect(area + PAGE, size, prot)
    return area + PAGE

def pattern(size):
    return (b"pmadvise" * (size // 8 + 1))[:size]

def fill(address, size):
    ctypes.memmove(address, pattern(size), size)

def intact(address, size):
    return ctypes.string_at(address, size) == pattern(size)

def filled(size, **kw):
    address = map(size, **kw)
    fill(address, size)
    return address

def unmap(address, size):
    checked(libc.munmap(address, size, 0))

def lock(address, size):
    checked(libc.mlock(address, size, 0))

def protect(address, size, prot):
    checked(libc.mprotect(address, size, prot))

def madvise(address, size, advice):
    checked(libc.madvise(address, size, advice))

print("ready", flush=True)
for line in sys.stdin:
    code = eval(line)
    try:
        try:
            value = eval(code)
        except SyntaxError:
            value = exec(code)
        print(repr((True, value)), flush=True)
    except Exception as error:
        print(repr((False, repr(error))), flush=True)
"""


class Target:
    """A process that runs the Python code it is sent, and maps memory."""

    def __init__(self, **popen: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **popen,
        )
        self.pid = self.process.pid
        self.pidfd = pmadvise.pidfd_open(self.pid)
        self._expect_ready()

    def _expect_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def exec_again(self) -> None:
        """Have the target execute its program anew."""
        assert self.process.stdin is not None
        code = f"os.execv({sys.executable!r}, {self.process.args!r})"
        self.process.stdin.write(repr(code) + "\n")
        self.process.stdin.flush()
        self._expect_ready()

    def run(self, code: str) -> Any:
        """Run `code` in the target; return the value of an expression."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(repr(code) + "\n")
        self.process.stdin.flush()
        done, value = ast.literal_eval(self.process.stdout.readline())
        if not done:
            raise RuntimeError(f"the target says {value} to {code!r}")
        return value

    def filled(self, size: int, more: str = "") -> int:
        """Map `size` bytes and write to each; return the address."""
        address: int = self.run(f"filled({size}{more})")
        return address

    def intact(self, address: int, size: int) -> bool:
        """Tell whether what filled() wrote there still stands there."""
        return bool(self.run(f"intact({address}, {size})"))

    def status(self, name: str) -> int:
        """Return a number of /proc/PID/status, kB in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                number, *unit = value.split()
                return int(number) * (1024 if unit == ["kB"] else 1)
        raise KeyError(name)

    def smaps(self, address: int, name: str) -> int:
        """Return the bytes that smaps says under `name` for the VMA at `address`."""
        found = False
        for line in Path(f"/proc/{self.pid}/smaps").read_text().splitlines():
            head = line.split(maxsplit=1)[0]
            if "-" in head:
                start, end = (int(part, 16) for part in head.split("-"))
                found = start <= address < end
            elif found and head == f"{name}:":
                return int(line.split()[1]) * 1024
        raise KeyError(name)

    def cpu_ticks(self) -> int:
        """Return user plus system time of the target, in clock ticks."""
        text = Path(f"/proc/{self.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def kill(self) -> None:
        """Kill the target and reap it."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Leave nothing of it behind."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                assert pipe is self.process.stdin
        os.close(self.pidfd)


class Outcome(NamedTuple):
    """How a function ended that ran in a child."""

    error: str | None
    """The name of the exception's type."""
    errno: int | None
    text: str
    value: Any


def in_child(function: Callable[[], object]) -> Outcome:
    """Run `function` in a fork, which may give up rights for good."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            outcome = Outcome(None, None, "", function())
        except BaseException as error:
            outcome = Outcome(
                type(error).__name__,
                getattr(error, "errno", None),
                str(error) if isinstance(error, OSError) else traceback.format_exc(),
                None,
            )
        os.write(writer, pickle.dumps(tuple(outcome)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return Outcome(*pickle.loads(answer))


CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_PERFMON = 19, 21, 23, 38


def drop_capabilities(*capabilities: int) -> None:
    """Take capabilities from the calling process. Wraps capset(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    assert libc.capget(header, data) == 0
    words = list(struct.unpack("6I", data.raw))
    for capability in capabilities:
        for word in range(3):
            words[3 * (capability // 32) + word] &= ~(1 << capability % 32)
    assert libc.capset(header, struct.pack("6I", *words)) == 0


def become_nobody() -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def refuse_syscall(number: int, errno: int) -> None:
    """Have a seccomp filter answer `errno` to one system call, for good."""
    statements = b"".join(
        struct.pack("HBBI", *statement)
        for statement in (
            (0x20, 0, 0, 0),  # load the number of the system call
            (0x15, 0, 1, number),  # is it this one?
            (0x06, 0, 0, 0x00050000 | errno),  # SECCOMP_RET_ERRNO
            (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.create_string_buffer(statements)
    filter_ = struct.pack("HxxxxxxP", 4, ctypes.addressof(program))
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.c_char_p(filter_), 0, 0) == 0  # PR_SET_SECCOMP


def send(pidfd: int, number: signal.Signals) -> None:
    """Send a signal by pidfd."""
    signal.pidfd_send_signal(pidfd, number)


def wait_for_state(pid: int, states: str) -> None:
    """Return once /proc/PID/stat says one of `states`."""
    while True:
        text = Path(f"/proc/{pid}/stat").read_text()
        if text.rpartition(")")[2].split()[0] in states:
            return
        os.sched_yield()
