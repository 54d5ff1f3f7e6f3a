"""The selftest's children: made, asked and ended; and the clean-up at its end."""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pmadvise
from pmadvise import Advice
from pmadvise.selftest.program import SIGNALS, Program
from pmadvise.selftest.requirements import (
    Skip,
    killed_for_memory,
    oom_kills,
    require_memory,
)

ANSWER_WITHIN = 300.0
"""Seconds for a child to answer: emulated machines are slow."""

_cleanups: list[Callable[[], None]] = []


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block signals, so that nothing is made without being registered."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def register(cleanup: Callable[[], None]) -> None:
    """Let clean_up() call a function, which has to remove itself by unregister()."""
    _cleanups.append(cleanup)


def unregister(cleanup: Callable[[], None]) -> bool:
    """Remove a function; return False if it was not registered."""
    if cleanup not in _cleanups:
        return False
    _cleanups.remove(cleanup)
    return True


def clean_up() -> None:
    """End the processes that are left, and remove the cgroups."""
    with signals_blocked():
        while _cleanups:
            _cleanups[-1]()


class Child:
    """A forked process that maps memory and calls the functions of Program when asked.

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
        result = self.ask(name, *arguments)
        if not isinstance(result, int):
            raise AssertionError(f"the child returns {result!r} from {name}")
        return result

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
        answer: dict[str, object] = json.loads(text)
        if "errno" in answer:
            number, message = answer["errno"], answer["error"]
            raise OSError(number, message)
        if "error" in answer:
            raise AssertionError(f"the child reports {answer['error']}")
        return answer["value"]

    def _death(self) -> Exception:
        """Return the exception for a child that has died."""
        end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        killed = end is not None and end.si_status == signal.SIGKILL
        if killed and oom_kills() > self._oom_kills:
            return killed_for_memory()
        how = f"by signal {end.si_status}" if killed and end else "of itself"
        return AssertionError(f"the child has died {how}")

    def require_permission(self, advice: Advice = Advice.COLD) -> None:
        """Skip where this user, or this kernel, may not advise the child so."""
        target = pmadvise.support(self.process).target
        if target is None:
            raise AssertionError("support() returns nothing about a target")
        answer = target.advice[advice]
        try:
            self.process.check(advice)
        except OSError as error:
            if answer or error.errno != answer.errno or str(answer) not in str(error):
                raise AssertionError(
                    f"support() answers {answer}, and check() raises {error}"
                ) from error
            raise Skip(str(answer)) from None
        if not answer:
            raise AssertionError(
                f"support() answers {answer}, and check() raises nothing"
            )

    def require_intact(self, address: int, size: int) -> None:
        """Raise unless the child finds its memory as it left it."""
        if self.ask("intact", address, size) is not True:
            raise AssertionError("the child's memory has changed")

    def steps(self) -> int:
        """Return how many steps the child has made since it began to count."""
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
