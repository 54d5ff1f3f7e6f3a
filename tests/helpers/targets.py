"""A process to advise: it maps what the test asks for, line by line."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pmadvise
from helpers import proc

PAGE = pmadvise.PAGE_SIZE
MIB = 1 << 20
GIB = 1 << 30

# Pages touched last wait in a CPU's batch (PAGEVEC_SIZE) before they are on an LRU
# list, and COLD and PAGEOUT pass over the others: mm/madvise.c, folio_test_lru().
LRU_BATCH = 31 * PAGE

_PROGRAM = Path(__file__).with_name("target_program.py")


class Target:
    """A process that evaluates the Python code it is sent, and maps memory."""

    def __init__(self, **popen: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-IS", str(_PROGRAM)],
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

    def run_detached(self, code: str) -> None:
        """Let the target run code that it never answers: an exec, an exit."""
        assert self.process.stdin is not None
        self.process.stdin.write(repr(code) + "\n")
        self.process.stdin.flush()

    def run(self, code: str) -> Any:
        """Run `code` in the target; return the value of an expression."""
        self.run_detached(code)
        assert self.process.stdout is not None
        done, value = ast.literal_eval(self.process.stdout.readline())
        if not done:
            raise RuntimeError(f"the target raised {value}: {code!r}")
        return value

    def exec_again(self) -> None:
        """Let the target execute its program anew, and wait until it runs."""
        self.run_detached(f"os.execv({sys.executable!r}, {self.process.args!r})")
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

    def kill(self) -> None:
        """Kill the target and reap it."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Leave nothing of it behind."""
        self.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        os.close(self.pidfd)


def pages(start: int, *numbers: int) -> pmadvise.Ranges:
    """Return pages of an area by their numbers, merged."""
    return pmadvise.Ranges((start + i * PAGE, PAGE) for i in numbers).merged()


def send_signal(pidfd: int, number: signal.Signals) -> None:
    """Send a signal by pidfd."""
    signal.pidfd_send_signal(pidfd, number)
