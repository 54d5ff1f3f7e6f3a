"""Targets of docs/examples/park, and its command line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import park
import pytest

from helpers import proc
from helpers.command import IMPORT_PATH
from helpers.forks import in_fork
from helpers.hold_targets import Cgroup
from helpers.needs import ROOT
from helpers.targets import MIB, PAGE, Target
from helpers.waiting import DEADLINE

SIZE = 32 * MIB
PROGRAM = ROOT / "docs/examples/park/park.py"


class Place:
    """A target to park, and how it is named on the command line.

    Args:
        target: A process with SIZE bytes.
        cgroup: Its own; None: it is the first of a tree.
    """

    def __init__(self, target: Target, cgroup: Cgroup | None) -> None:
        self.target, self.cgroup = target, cgroup
        self.area = target.filled(SIZE)
        self.arguments = ["--tree", str(target.pid)]
        if cgroup is not None:
            cgroup.add(target.pid)
            self.arguments = ["--cgroup", str(cgroup.path)]

    def is_still(self) -> bool:
        """Whether it stands still."""
        if self.cgroup is not None:
            return self.cgroup.frozen()
        return state(self.target.pid) == "T"

    def faults(self) -> tuple[int, int]:
        """Let the target look at each page; return its major and minor faults."""
        before = proc.stat(self.target.pid)
        self.target.run(f"look({self.area}, range({SIZE // PAGE}))")
        after = proc.stat(self.target.pid)
        major, minor = (int(after[i]) - int(before[i]) for i in (9, 7))
        return major, minor


def state(pid: int) -> str:
    return proc.stat(pid)[0]


@contextlib.contextmanager
def targets() -> Iterator[Target]:
    target = Target()
    try:
        yield target
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(target.pid, signal.SIGCONT)
        target.close()


VERSIONS = [
    pytest.param(1, marks=pytest.mark.needs_cgroup1, id="v1"),
    pytest.param(2, marks=pytest.mark.needs_cgroup2, id="v2"),
]


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run park.py; in a fork, unless the options are of a new program."""
    command = [str(PROGRAM), *arguments]
    if not options:
        done = in_fork(park.main, command, os.environ)
        return subprocess.CompletedProcess(command, *done)
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        **options,
    )


def lines(*arguments: str, **options: Any) -> list[str]:
    """Run park.py, which is to succeed; return what it prints."""
    done = run(*arguments, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
