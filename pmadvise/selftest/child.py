"""The selftest's own processes: how they are made, asked and ended."""

from __future__ import annotations

import json
import mmap
import os
import select
import signal

import pmadvise
from pmadvise.selftest.cleanup import register, signals_blocked, unregister
from pmadvise.selftest.program import Program
from pmadvise.selftest.requirements import (
    Skip,
    killed_for_memory,
    oom_kills,
    require_memory,
)

ANSWER_WITHIN = 300.0
"""Seconds for a child to answer: emulated machines are slow."""


class Child:
    """A forked process that maps memory and does what it is asked to.

    It ends with the selftest, however that ends, and takes no signal of the terminal.
    """

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._process: pmadvise.Process | None = None
        self._oom_kills = oom_kills()
        self._steps = mmap.mmap(-1, mmap.PAGESIZE)
        try:
            self._fork()
            self.answer()  # the child is set up, and may be looked at
            self._process = self._open()
        except BaseException:
            self.close()
            raise

    def _fork(self) -> None:
        to_child, command = self._pipe()
        answer, from_child = self._pipe()
        parent = os.getpid()
        with signals_blocked():
            self.pid = os.fork()
            if self.pid == 0:
                os.close(command)
                Program(from_child, self._steps).live(parent, to_child)
            register(self.close)
        self._command, self._answer = command, answer
        for fd in (to_child, from_child):
            self._fds.remove(fd)
            os.close(fd)

    def _pipe(self) -> tuple[int, int]:
        reader, writer = os.pipe()
        self._fds += reader, writer
        return reader, writer

    def _open(self) -> pmadvise.Process:
        try:
            return pmadvise.Process(self.pid)
        except OSError:
            answer = pmadvise.support().pidfd_open
            if answer or answer.refused_by == "build":
                raise
            raise Skip(str(answer)) from None

    @property
    def process(self) -> pmadvise.Process:
        """The handle of the child."""
        assert self._process is not None
        return self._process

    def map(self, size: int, fill: int | None = None) -> int:
        """Let the child map memory and fill `fill` bytes (all); return the address."""
        require_memory(size if fill is None else fill)
        return self.ask_int("map", size, fill)

    def fill(self, address: int, size: int) -> None:
        """Let the child fill memory."""
        require_memory(size)
        self.ask("fill", address, size)

    def fill_small(self, address: int, size: int) -> None:
        """Let the child fill memory with pages that are not huge."""
        require_memory(size)
        self.ask("fill_small", address, size)

    def smaps(self, address: int, size: int, name: str) -> int:
        """Return the bytes that the child finds in its smaps."""
        return self.ask_int("smaps", address, size, name)

    def ask(self, name: str, *arguments: object) -> object:
        """Let the child call one of its functions; return the result."""
        os.write(self._command, json.dumps([name, *arguments]).encode() + b"\n")
        return self.answer()

    def ask_int(self, name: str, *arguments: object) -> int:
        """Let the child call one of its functions; return the result, a number."""
        found = self.ask(name, *arguments)
        if not isinstance(found, int):
            raise AssertionError(f"the child returns {found!r} from {name}")
        return found

    def answer(self) -> object:
        """Return the next answer of the child."""
        text = b""
        while not text.endswith(b"\n"):
            if not select.select([self._answer], [], [], ANSWER_WITHIN)[0]:
                raise AssertionError(f"the child did not answer in {ANSWER_WITHIN} s")
            part = os.read(self._answer, 1 << 16)
            if not part:
                raise self._death()
            text += part
        found: dict[str, object] = json.loads(text)
        if "errno" in found:
            number, message = found["errno"], found["error"]
            raise OSError(number, message)
        if "error" in found:
            raise AssertionError(f"the child reports {found['error']}")
        return found["value"]

    def _death(self) -> Exception:
        """Return the exception for a child that has died."""
        end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        killed = end is not None and end.si_status == signal.SIGKILL
        if killed and oom_kills() > self._oom_kills:
            return killed_for_memory()
        how = f"by signal {end.si_status}" if killed and end else "of itself"
        return AssertionError(f"the child has died {how}")

    def steps(self) -> int:
        """Return how many steps a child that counts has made."""
        return int.from_bytes(self._steps[:8], "little")

    def kill(self) -> None:
        """End the child, and leave it a zombie."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def close(self) -> None:
        """End the child and reap it; may be called again."""
        with signals_blocked():
            if unregister(self.close):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            while self._fds:
                os.close(self._fds.pop())
            self._steps.close()
            if self._process is not None:
                self._process.close()

    def __enter__(self) -> Child:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the child."""
        self.close()
