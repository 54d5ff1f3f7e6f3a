"""What became of an mm, by the text of /proc/PID/task/PID/stat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmadvise._native import mm

PID = 1
START_CODE, START_STACK = 0x555555554000, 0x7FFFFFFFE000
EXITING, FORKNOEXEC = 0x4, 0x40


class Stat:
    """A directory like /proc/PID, whose stat has what a test writes."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "task" / str(PID) / "stat"
        self._file.parent.mkdir(parents=True)
        self.fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def write(
        self,
        state: str = "R",
        flags: int = 0,
        start_code: int = START_CODE,
        start_stack: int = START_STACK,
    ) -> None:
        """Write the line: fields as in proc_pid_stat(5)."""
        fields = {9: flags, 26: start_code, 28: start_stack}
        rest = " ".join(str(fields.get(number, 0)) for number in range(4, 53))
        self._file.write_text(f"{PID} (a) b) {state} {rest}\n")

    def ended(self, mark: mm.Mark) -> int:
        """Return what became of the marked mm."""
        return mm.mm_ended(self.fd, PID, -1, mark)


@pytest.fixture
def stat(tmp_path: Path) -> Iterator[Stat]:
    """Return a Stat."""
    made = Stat(tmp_path)
    made.write()
    yield made
    os.close(made.fd)


def test_current(stat: Stat) -> None:
    """The same start_code and start_stack are the same mm."""
    assert stat.ended(mm.Mark(stat.fd, PID)) == mm.CURRENT


def test_program_being_mapped(stat: Stat) -> None:
    """An exec whose new program is not mapped yet is an exec, not an exit."""
    mark = mm.Mark(stat.fd, PID)
    stat.write(start_code=0)
    assert stat.ended(mark) == mm.EXEC


@pytest.mark.parametrize(
    ("state", "flags"), [("R", EXITING), ("Z", EXITING), ("Z", 0), ("X", 0)]
)
def test_exits(stat: Stat, state: str, flags: int) -> None:
    """A leader that exits, or has exited, is an exit."""
    mark = mm.Mark(stat.fd, PID)
    stat.write(state=state, flags=flags, start_code=0, start_stack=0)
    assert stat.ended(mark) == mm.EXITED


def test_access_lost(stat: Stat) -> None:
    """Where ptrace read access is refused, it can't be known."""
    mark = mm.Mark(stat.fd, PID)
    stat.write(start_code=1, start_stack=0)
    assert stat.ended(mark) == mm.REFUSED


def test_exec_in_place(stat: Stat) -> None:
    """A child of a fork that execs at the same addresses has exec'd."""
    stat.write(flags=FORKNOEXEC)
    mark = mm.Mark(stat.fd, PID)
    stat.write()
    assert stat.ended(mark) == mm.EXEC
