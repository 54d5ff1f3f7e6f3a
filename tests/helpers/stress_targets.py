"""Targets of the stress tests: a C program that checks its own memory."""

from __future__ import annotations

import atexit
import functools
import mmap
import os
import select
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from helpers.targets import CountingProcess
from helpers.waiting import until
from pmadvise import pidfd_open

STORM, CALM, REST, CROWD, MOSAIC = "storm", "calm", "rest", "crowd", "mosaic"

_SOURCE = Path(__file__).with_name("stress_target.c")
_STARTED, _WRONG, _VERIFIED, _FORKS, _EXECS, _CHANGES, _REFUSED, _READY = range(8)
_STEPS = slice(8, 12)


@functools.cache
def _program() -> str:
    """Compile the target, once for all tests."""
    directory = tempfile.mkdtemp(prefix="pmadvise-stress-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    program = f"{directory}/stress_target"
    subprocess.run(
        ["gcc", "-std=c11", "-O2", "-pthread", "-Wall", str(_SOURCE), "-o", program],
        check=True,
        timeout=120,
    )
    return program


class StressTarget(CountingProcess):
    """A process of the C program, and what it counts.

    Args:
        mode: One of the names above.
        number: The seed, or the size: see the source.
    """

    def __init__(self, mode: str, number: int) -> None:
        super().__init__(
            lambda memory: [_program(), str(memory), mode, str(number)],
            mmap.PAGESIZE // 8,
            stdout=None,
        )
        self.mode = mode
        # Not by Popen.poll(), which may take a ptrace stop for an end.
        self._end = select.poll()
        self._pidfd = pidfd_open(self.pid)
        self._end.register(self._pidfd, select.POLLIN)
        self._ready = 0
        self.wait_until_ready()

    def has_ended(self) -> bool:
        """Return whether it is dead."""
        return bool(self._end.poll(0))

    @property
    def started(self) -> int:
        """How many times the program was started: once more after each exec."""
        return self.counters()[_STARTED]

    @property
    def wrong(self) -> int:
        """Pages that did not have what was written to them."""
        return self.counters()[_WRONG]

    @property
    def verified(self) -> int:
        """Pages that were looked at."""
        return self.counters()[_VERIFIED]

    @property
    def forks(self) -> int:
        """Children that it made, and that found its memory right."""
        return self.counters()[_FORKS]

    @property
    def execs(self) -> int:
        """Calls of execve(2) that began."""
        return self.counters()[_EXECS]

    @property
    def changes(self) -> int:
        """Mappings made, ended or altered."""
        return self.counters()[_CHANGES]

    @property
    def steps(self) -> list[int]:
        """Steps of each of the four threads."""
        return self.counters()[_STEPS]

    def wait_until_ready(self) -> None:
        """Wait until it has started, or done what it was told."""
        self._ready += 1
        until(
            lambda: self.counters()[_READY] >= self._ready or self.has_ended(),
            "the target is ready",
        )

    def tell(self, command: str) -> None:
        """Send a command: v (verify), e (exec), x (exit)."""
        self.send(command)

    def verify(self) -> bool:
        """Let it look at all of its memory; return whether that is right."""
        self.tell("v")
        self.wait_until_ready()
        return not (self.has_ended() or self.wrong)

    def goes_on(self) -> None:
        """Wait until a thread of it has made steps: any, as others may wait."""
        before, started = sum(self.steps), self.started

        def moved() -> bool:
            return (
                sum(self.steps) > before or self.started > started or self.has_ended()
            )

        until(moved, f"target {self.pid} goes on")

    def kill(self) -> None:
        """Kill it, if it lives, and do not reap it."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing of it behind."""
        super().close()
        os.close(self._pidfd)
