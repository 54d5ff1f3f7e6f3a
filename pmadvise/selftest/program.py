"""The program of the selftest's children: the functions that they are asked to call.

It reads /proc independently of pmadvise, and cuts text only at the newline.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NoReturn, TypeAlias

import pmadvise
from pmadvise import Advice
from pmadvise.selftest.libc import (
    MADV_RANDOM,
    PAGE,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    PR_SET_THP_DISABLE,
    bytes_at,
    checked,
    in_core,
    libc,
    map_memory,
    on_one_cpu,
)

SIGNALS = signal.SIGHUP, signal.SIGINT, signal.SIGTERM
"""The signals that end the selftest, and that its children ignore."""
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"
"""A value that goes through the pipes."""


class Program:
    """The functions of a child: each is do_NAME(), and asked for by NAME.

    Args:
        answers: File descriptor to write answers to, a line each.
        steps: Shared memory for the steps of do_count().
    """

    def __init__(self, answers: int, steps: mmap.mmap) -> None:
        self._answers, self._steps = answers, steps
        self._sums: dict[int, int] = {}

    def live(self, parent: int, commands: int) -> NoReturn:
        """Call the functions that the lines of `commands` name, and exit.

        Args:
            parent: Its process ID: the child ends with it.
            commands: File descriptor.
        """
        try:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # it is not, if the parent is not
            with suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
                file.write(b"1000")  # the first to be killed, if memory runs short
            if os.getppid() == parent:
                self._do("pid", [])
                with os.fdopen(commands, "rb") as lines:
                    for line in lines:
                        name, *arguments = json.loads(line)
                        self._do(name, arguments)
        finally:
            os._exit(0)

    def _do(self, name: str, arguments: Iterable[Json]) -> None:
        try:
            answer: dict[str, Json] = {"value": getattr(self, f"do_{name}")(*arguments)}
        except OSError as error:
            answer = {"errno": error.errno, "error": error.strerror}
        except Exception as error:
            answer = {"error": repr(error)}
        os.write(self._answers, json.dumps(answer).encode() + b"\n")

    def do_map(self, size: int, fill: int | None = None, fd: int = -1) -> int:
        """Map memory, and write to the first `fill` bytes (all); return the address."""
        address = map_memory(size, _READ_WRITE, fd)
        if fd >= 0:
            # Page by page: readahead makes large folios, which PAGEOUT of some kernels
            # (6.1) passes over, and of others only where a call covers all of one.
            checked(libc.madvise(address, size, MADV_RANDOM), "madvise")
            with on_one_cpu():
                self._sums[address] = zlib.crc32(bytes_at(address, size))
        else:
            self.do_fill(address, size if fill is None else fill)
        return address

    def do_map_file(self, size: int, fd: int) -> int:
        """Map a file that was open at the fork, touching nothing."""
        return map_memory(size, mmap.PROT_READ, fd)

    def do_reserve(self, size: int) -> int:
        """Map inaccessible memory; return the address."""
        return map_memory(size, 0)

    def do_fill(self, address: int, size: int) -> None:
        """Make memory accessible and fill each page with different bytes."""
        checked(libc.mprotect(address, size, _READ_WRITE), "mprotect")
        page = os.urandom(64) * (PAGE // 64)
        with on_one_cpu():
            for offset in range(0, size, PAGE):
                text = offset.to_bytes(8, "little") + page[8:]
                ctypes.memmove(address + offset, text, PAGE)
        if size:
            self._sums[address] = zlib.crc32(bytes_at(address, size))

    def do_fill_small(self, address: int, size: int) -> None:
        """Fill with pages that are not huge."""
        checked(libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), "PR_SET_THP_DISABLE")
        self.do_fill(address, size)
        checked(libc.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), "PR_SET_THP_DISABLE")

    def do_intact(self, address: int, size: int) -> bool:
        """Return whether the memory is as it was when it was mapped or filled."""
        return zlib.crc32(bytes_at(address, size)) == self._sums[address]

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
        for line in _lines("/proc/self/status"):
            key, _, value = line.partition(b":")
            if key == name.encode():
                return int(value.split()[0]) * 1024
        raise KeyError(name)

    def do_smaps(self, address: int, size: int, name: str) -> int:
        """Return the bytes that smaps has under `name` for the VMAs in a range."""
        total, inside = 0, False
        for line in _lines("/proc/self/smaps"):
            first = line.split(b" ", 1)[0]
            if not first.endswith(b":"):
                start, end = (int(part, 16) for part in first.split(b"-"))
                inside = address <= start and end <= address + size
            elif inside and first == f"{name}:".encode():
                total += int(line.split()[1]) * 1024
        return total

    def do_advise_self(self, address: int, size: int, advice: int) -> int:
        """Advise memory of this process."""
        pidfd = pmadvise.pidfd_open(os.getpid())
        try:
            return pmadvise.process_madvise(pidfd, [(address, size)], Advice(advice))
        finally:
            os.close(pidfd)

    def do_count(self) -> None:
        """Count steps without end."""
        os.write(self._answers, b'{"value": null}\n')
        for step in range(1 << 62):
            self._steps[:8] = step.to_bytes(8, "little")
            time.sleep(0.0002)

    def do_exec(self) -> None:
        """Become another program, which answers once and waits."""
        os.set_inheritable(self._answers, True)
        code = f"import os, time; os.write({self._answers}, b'{{\"value\": 1}}\\n'); "
        program = sys.executable or "/proc/self/exe"
        os.execv(program, [program, "-ISc", code + "time.sleep(3600)"])

    def do_as(self, user: int, name: str, *arguments: Json) -> Json:
        """Become another user, without capabilities, and then call a function."""
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "PR_SET_DUMPABLE")
        result: Json = getattr(self, f"do_{name}")(*arguments)
        return result

    def do_pid(self) -> int:
        """Return the process ID."""
        return os.getpid()

    def do_check(self, pid: int, advice: int) -> dict[str, Json]:
        """Return the errno and text of check(), and those of support(), for a process.

        The errnos are 0 and the texts empty where the process may be advised.
        """
        with pmadvise.Process(pid) as process:
            target = pmadvise.support(process).target
            assert target is not None
            answer = target.may
            outcome: dict[str, Json] = {
                "errno": 0,
                "text": "",
                "answered": 0,
                "why": "",
            }
            if not answer:
                outcome |= {"answered": answer.errno, "why": str(answer)}
            try:
                process.check(advice)
            except OSError as error:
                outcome |= {"errno": error.errno, "text": str(error)}
        return outcome


def _lines(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for line in file:  # ends only at b"\n"
            yield line.removesuffix(b"\n")
