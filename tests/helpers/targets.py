"""Processes that tests start: one that counts, one that maps what it is asked to."""

from __future__ import annotations

import array
import ast
import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pmadvise
from helpers import proc
from helpers.waiting import wait_for_state
from pmadvise import AddressSpace, Process, Vma

PAGE = pmadvise.PAGE_SIZE
MIB = 1 << 20
GIB = 1 << 30

# Pages touched last wait in a CPU's batch (PAGEVEC_SIZE) before they are on an LRU
# list, and COLD and PAGEOUT pass over the others: mm/madvise.c, folio_test_lru().
LRU_BATCH = 31 * PAGE

_PROGRAM = Path(__file__).with_name("target_program.py")


class TargetProcess:
    """A process that a test starts, with a pipe to it and one from it.

    Args:
        command: The program and its arguments.
        popen: For subprocess.Popen.
    """

    def __init__(self, command: list[str], **popen: Any) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.popen = subprocess.Popen(command, text=True, **{**pipes, **popen})
        self.pid = self.popen.pid

    def send(self, text: str) -> None:
        """Write to its standard input."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(text)
        self.popen.stdin.flush()

    def line(self) -> str:
        """Return the next line it prints."""
        assert self.popen.stdout is not None
        return str(self.popen.stdout.readline()).strip()

    def kill(self) -> None:
        """Kill and reap it."""
        self.popen.kill()
        self.popen.wait()

    def close(self) -> None:
        """Leave nothing of it behind."""
        self.popen.kill()
        self.popen.wait()
        assert self.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        if self.popen.stdout is not None:
            self.popen.stdout.close()


class CountingProcess(TargetProcess):
    """A process that counts in memory shared with it.

    Args:
        command: Returns the program and its arguments for the memory's descriptor.
        n_counters: How many numbers of 8 bytes the memory has.
        popen: For subprocess.Popen.
    """

    def __init__(
        self, command: Callable[[int], list[str]], n_counters: int, **popen: Any
    ) -> None:
        with tempfile.TemporaryFile() as file:
            fd = file.fileno()
            file.truncate(8 * n_counters)
            self._memory = mmap.mmap(fd, 8 * n_counters)
            passed = (fd, *popen.pop("pass_fds", ()))
            super().__init__(command(fd), pass_fds=passed, **popen)

    def counters(self) -> list[int]:
        """Return what it has counted so far."""
        return list(array.array("Q", self._memory[:]))

    def close(self) -> None:
        """Leave nothing of it behind."""
        super().close()
        self._memory.close()


class Target(TargetProcess):
    """A process that evaluates the Python code it is sent, and maps memory."""

    def __init__(self, **popen: Any) -> None:
        super().__init__([sys.executable, "-IS", str(_PROGRAM)], **popen)
        self.pidfd = pmadvise.pidfd_open(self.pid)
        self._expect_ready()

    def _expect_ready(self) -> None:
        assert self.line() == "ready"

    def run_detached(self, code: str) -> None:
        """Let the target run code that it never answers: an exec, an exit."""
        self.send(repr(code) + "\n")

    def run(self, code: str) -> Any:
        """Run `code` in the target; return the value of an expression."""
        self.run_detached(code)
        done, value = ast.literal_eval(self.line())
        if not done:
            raise RuntimeError(f"the target raised {value}: {code!r}")
        return value

    def exec_again(self) -> None:
        """Let the target execute its program anew, and wait until it runs."""
        self.run_detached(f"os.execv({sys.executable!r}, {self.popen.args!r})")
        self._expect_ready()

    def map(self, size: int) -> int:
        """Map `size` bytes of anonymous memory; return the address."""
        address: int = self.run(f"map({size})")
        return address

    def filled(self, size: int, more: str = "") -> int:
        """Map `size` bytes and write to each; return the address."""
        address: int = self.run(f"filled({size}{more})")
        return address

    def touched(self, numbers: str, size: int = 64, more: str = "") -> int:
        """Map `size` pages and write to those of these numbers; return the address."""
        address: int = self.run(f"map({size * PAGE}{more})")
        self.run(f"touch({address}, {numbers})")
        return address

    def reserved(self, size: int) -> int:
        """Map `size` bytes that reserve no swap; return the address."""
        address: int = self.run(f"reserve({size})")
        return address

    def mapped_file(self, path: Path | str | bytes, size: int, more: str = "") -> int:
        """Map a file, to be written to unless `more` has another `prot`."""
        code = f"map({size}, fd=os.open({os.fspath(path)!r}, 2){more})"
        if "flags" not in more:
            code = code[:-1] + ", flags=PRIVATE)"
        address: int = self.run(code)
        return address

    def thread(self) -> int:
        """Start a thread that does nothing; return its ID."""
        tid: int = self.run("thread()")
        return tid

    def intact(self, address: int, size: int) -> bool:
        """Return whether memory still has what filled() wrote."""
        return bool(self.run(f"intact({address}, {size})"))

    def status(self, name: str) -> int:
        """Return a number of /proc/PID/status, kB in bytes."""
        return proc.status(self.pid, name)

    def smaps(self, address: int, name: str) -> int:
        """Return the bytes that smaps has under `name` for the VMA at `address`."""
        return proc.smaps(self.pid, address, name)

    def close(self) -> None:
        """Leave nothing of it behind."""
        super().close()
        os.close(self.pidfd)


def pages(start: int, *numbers: int) -> pmadvise.Ranges:
    """Return pages of an area by their numbers, merged."""
    return pmadvise.Ranges((start + i * PAGE, PAGE) for i in numbers).merged()


def send_signal(pidfd: int, number: signal.Signals) -> None:
    """Send a signal by pidfd."""
    signal.pidfd_send_signal(pidfd, number)


SHELL = os.path.realpath("/bin/sh")
AT_REST = ["sh", "-c", "kill -STOP $$"]


def exec_shell(target: Target) -> None:
    """Let the target exec, and return once it is stopped."""
    target.run_detached(f"os.execv({SHELL!r}, {AT_REST})")
    wait_for_state(target.pid, "T")


def is_shell(process: Process) -> bool:
    """Return whether the shell is in the latest maps."""
    return process.maps().select(path=SHELL).total > 0


def vma_at(space: AddressSpace, address: int) -> Vma:
    """Return the VMA that an address lies in."""
    return next(vma for vma in space if vma.start <= address < vma.end)


def new_file(target: Target, path: Path | bytes, n_pages: int = 4) -> int:
    """Let the target map a new file of so many pages; return the address."""
    with open(path, "wb") as file:
        file.write(b"f" * n_pages * PAGE)
    return target.mapped_file(path, n_pages * PAGE)


def map_at(
    target: Target, address: int, size: int, path: Path, offset: int, flags: str
) -> None:
    """Let the target map a file over the memory at an address."""
    target.run(
        f"map_at({address}, {size}, flags={flags}, "
        f"fd=os.open({os.fspath(path)!r}, 2), offset={offset})"
    )


def furnish(target: Target) -> None:
    """Give a target memory of several kinds: locked, shared and sparse."""
    target.filled(8 * MIB)
    locked = target.filled(MIB)
    target.run(f"lock({locked}, {MIB})")
    target.filled(3 * MIB)
    shared = target.run(f"map({2 * MIB}, flags=SHARED, fd=memfd(b'shared', {2 * MIB}))")
    target.run(f"fill({shared}, {2 * MIB})")
    target.touched("range(0, 512, 2)", 512)
