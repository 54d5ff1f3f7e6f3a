"""Ctrl-C while a program starts: status 130, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import IMPORT_PATH, environment
from helpers.needs import ROOT

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]

SITE = """
import _signal, atexit, os, sys

moment, names = int(os.environ["MOMENT"]), os.environ["NAMES"].split()
count, has_begun = 0, False

def interrupt():
    global count
    count += 1
    if count == moment:
        os.kill(os.getpid(), _signal.SIGINT)

class Imports:
    def find_spec(self, name, path=None, target=None):
        global has_begun
        if name == os.environ["FIRST"] and not has_begun:
            has_begun = True
            if names:
                sys.setprofile(calls)
        if has_begun and not names:
            interrupt()

def calls(frame, event, argument):
    if event == "call" and frame.f_code.co_name in names:
        interrupt()

def tell():
    with open(os.environ["COUNT"], "w") as file:
        file.write(str(count))

sys.meta_path.insert(0, Imports())
atexit.register(tell)
"""
"""Interrupt a program at a moment: the import of a module, or the call of a function.

The first is the import of FIRST; NAMES are of functions. 0 is no moment.
"""
SCRIPT = """
import sys
from pmadvise.__main__ import main
if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix(".exe")
    sys.exit(main())
"""
"""The script that an installer writes for the entry point."""
UNRAISABLE = "cb __set_name__"
"""A callback of a weak reference, of importlib, and a method that type() calls.

What the first raises is lost, and what the second raises is a RuntimeError before
Python 3.12.
"""


class Start:
    """The start of a program, which can be interrupted at each of its moments."""

    def __init__(
        self, scratch: Path, command: list[str], first: str, names: str = ""
    ) -> None:
        (scratch / "sitecustomize.py").write_text(SITE)
        self._command, self._count = command, scratch / "count"
        self._environment = environment(
            PYTHONPATH=os.pathsep.join([str(scratch), IMPORT_PATH]),
            COUNT=str(self._count),
            FIRST=first,
            NAMES=names,
        )

    def run(self, moment: int) -> tuple[int, str]:
        """Interrupt it at a moment; return its exit status and stderr."""
        done = subprocess.run(
            self._command,
            cwd=ROOT,
            env={**self._environment, "MOMENT": str(moment)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.strip()

    def moments(self) -> Iterator[int]:
        """Yield the first and the last moments, and some that are between them."""
        assert self.run(0) == (0, "")
        count = int(self._count.read_text())
        assert count > 30
        yield from (1, 2, *range(3, count - 1, count // 5), count)

    def failures(self) -> dict[int, tuple[int, str]]:
        """Return each moment at which it does not end as it should."""
        ends = {moment: self.run(moment) for moment in self.moments()}
        return {moment: end for moment, end in ends.items() if end != (130, "")}


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "pmadvise", "show", str(os.getpid())],
        ["-c", SCRIPT, "show", str(os.getpid())],
        ["-m", "pmadvise.selftest", "--list"],
    ],
    ids=["module", "script", "selftest"],
)
def test_interrupted_at_an_import(tmp_path: Path, arguments: list[str]) -> None:
    """From the first module of a program on, it ends as at any time."""
    command = [sys.executable, *arguments]
    assert Start(tmp_path, command, "pmadvise._streams").failures() == {}


def test_interrupted_where_none_can_be_raised(tmp_path: Path) -> None:
    """Ctrl-C is neither lost nor an error of another kind while modules load."""
    command = [sys.executable, "-m", "pmadvise", "--version"]
    assert Start(tmp_path, command, "pmadvise._streams", UNRAISABLE).failures() == {}


IGNORED = """
import signal
signal.signal(signal.SIGINT, signal.{handler})
import {module}
print(signal.getsignal(signal.SIGINT) is signal.{handler})
"""


@pytest.mark.parametrize("handler", ["SIG_IGN", "SIG_DFL", "default_int_handler"])
@pytest.mark.parametrize("module", ["pmadvise", "pmadvise.process"])
def test_handler_of_a_caller(handler: str, module: str) -> None:
    """A program that imports the package keeps what it does at Ctrl-C."""
    code = IGNORED.format(handler=handler, module=module)
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "True\n"


@pytest.mark.parametrize("program", [["-m", "pmadvise"], ["-c", SCRIPT]])
def test_ignored(tmp_path: Path, program: list[str]) -> None:
    """A command in the background, whose SIGINT is ignored, is not ended by it."""
    command = [sys.executable, *program, "--version"]
    start = Start(
        tmp_path,
        ["/bin/sh", "-c", "trap '' INT; \"$@\"", "sh", *command],
        "pmadvise._streams",
    )
    assert start.run(3) == (0, "")
