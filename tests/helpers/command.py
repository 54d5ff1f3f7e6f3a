"""The command `pmadvise`, run as its users run it: by a pipe, and on a terminal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import importlib
import io
import os
import pkgutil
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from unittest import mock

import pytest

from helpers.forks import TIMEOUT, Done, in_fork, load_names
from helpers.needs import ROOT
from helpers.waiting import DEADLINE
from pmadvise import Process, command

COMMAND = (sys.executable, "-m", "pmadvise")
_UNWANTED = {
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
    *("LC_ALL", "LC_CTYPE", "PYTHONIOENCODING"),
}


IMPORT_PATH = os.pathsep.join(path for path in (str(ROOT), *sys.path) if path)
"""PYTHONPATH of a program that is to find this package, installed or not."""


def environment(**variables: str) -> dict[str, str]:
    """Return an environment in which nothing but `variables` changes the output."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    return {**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **variables}


def run(*arguments: object, **variables: str) -> Done:
    """Run the command, its output read by pipes.

    In a fork, where all that it imports is loaded already: a tenth of the work. Python
    starts anew only for variables that it reads itself when it starts.
    """
    if any(name.startswith(("LANG", "LC_", "PYTHON")) for name in variables):
        return _run(arguments, variables, None)
    return in_fork(
        _load().main, ["pmadvise", *map(str, arguments)], environment(**variables)
    )


@functools.cache
def _load() -> ModuleType:
    """Return the command's entry point, when all is loaded that it loads late."""
    for module in pkgutil.iter_modules(command.__path__, "pmadvise.command."):
        importlib.import_module(module.name)
    for name in ("rich.console", "rich.table", "rich.live"):
        importlib.import_module(name)
    load_names()
    # Not above: `python -m pmadvise` in what imports this would be told so.
    return importlib.import_module("pmadvise.__main__")


def run_with_descriptors(number: int, *arguments: object) -> Done:
    """Run the command where it may have so many file descriptors, and no more."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))

    return _run(arguments, {}, limit)


def _run(
    arguments: tuple[object, ...],
    variables: Mapping[str, str],
    before: Callable[[], None] | None,
) -> Done:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=before,
        timeout=TIMEOUT,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_here(*arguments: object, **variables: str) -> Done:
    """Run the command in this process, with `variables` in an environment as of run().

    That is five times as fast.
    """
    from pmadvise.command import app  # noqa: PLC0415 - not all who run it have click

    kept = environment(**variables) if variables else dict(os.environ)
    with (
        mock.patch.dict(os.environ, kept, clear=True),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        status = app.run([*map(str, arguments)])
    return Done(status, out.getvalue(), err.getvalue())


def ending_before_its_turn(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    """Let a target end right before the command opens it."""
    from pmadvise.command.targets import (  # noqa: PLC0415 - likewise
        TargetEntry,
        TargetProcess,
    )

    opened = TargetEntry.open

    def open_after_its_end(entry: TargetEntry) -> TargetProcess:
        if entry.pid == pid:
            with Process(pid) as process:
                os.kill(pid, signal.SIGKILL)
                process.wait()
        return opened(entry)

    monkeypatch.setattr(TargetEntry, "open", open_after_its_end)


class Terminal:
    """A command whose stdout and stderr are a terminal."""

    def __init__(
        self,
        *arguments: object,
        size: tuple[int, int] = (24, 80),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._fd, other = os.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
        self.output = b""
        self._process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=ROOT,
            env=environment(**variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=other,
            stderr=other,
        )
        os.close(other)

    def read_until(self, condition: Callable[[bytes], object]) -> None:
        """Read the output until a condition on all of it is true."""
        end = time.monotonic() + DEADLINE
        while not condition(self.output):
            left = end - time.monotonic()
            assert left > 0, f"not within {DEADLINE:.0f} s: {self.output!r}"
            if not self._read(left):
                assert condition(self.output), self.output
                return

    def _read(self, seconds: float) -> bool:
        """Read once; return False at the end."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return True
        try:
            part = os.read(self._fd, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:  # which means that the command has ended
                raise
            return False
        self.output += part
        return part != b""

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self._process.send_signal(signal.SIGINT)

    def finish(self) -> int:
        """Read all of the output; return the exit status."""
        end = time.monotonic() + DEADLINE
        while self._read(end - time.monotonic()):
            assert time.monotonic() < end, self.output
        return self._process.wait(DEADLINE)

    def close(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()
        os.close(self._fd)


@contextlib.contextmanager
def terminal(
    *arguments: object,
    size: tuple[int, int] = (24, 80),
    variables: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """Run the command on a terminal."""
    running = Terminal(*arguments, size=size, variables=variables)
    try:
        yield running
    finally:
        running.close()
