"""The stat of a thread as the C code reads it, from a directory of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.names import LIES, names
from hypothesis import given
from hypothesis import strategies as st

from pmadvise._native.mm import CURRENT, EXEC, EXITED, REFUSED, MmFingerprint, mm_ended

PID = 77
PF_EXITING, PF_FORKNOEXEC = 0x4, 0x40
NO_FILE = -1

Stat = Callable[..., None]


def text_of(
    name: bytes = b"python",
    state: str = "S",
    flags: int = 0,
    start_code: int = 4096,
    start_stack: int = 8192,
) -> bytes:
    """Return the stat of a thread, as do_task_stat() of fs/proc/array.c writes it."""
    fields = [0] * 50
    fields[0], fields[6] = PID, flags
    values = [str(i) for i in range(50)]
    values[9 - 4], values[26 - 4], values[28 - 4] = map(
        str, (flags, start_code, start_stack)
    )
    head = b"%d (%s) %s " % (PID, name, state.encode())
    return head + " ".join(values).encode() + b"\n"


class Directory:
    """A directory that looks like /proc/PID."""

    def __init__(self, path: Path) -> None:
        self._file = path / "task" / str(PID) / "stat"
        self._file.parent.mkdir(parents=True)
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def write(self, text: bytes) -> None:
        """Set the text of stat."""
        self._file.write_bytes(text)

    def fingerprint(self, text: bytes) -> MmFingerprint:
        """Return the fingerprint of a process with this stat."""
        self.write(text)
        return MmFingerprint(self.fd, PID)

    def ended(self, then: MmFingerprint, text: bytes) -> int:
        """Return what became of a process that had `then` and has this stat now."""
        self.write(text)
        return mm_ended(self.fd, PID, NO_FILE, then)


@pytest.fixture(scope="module")
def proc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    directory = Directory(tmp_path_factory.mktemp("proc"))
    yield directory
    os.close(directory.fd)


@given(names | st.sampled_from(LIES), names)
def test_a_name_changes_nothing(proc: Directory, name: bytes, later: bytes) -> None:
    """Whatever a process calls itself, before and after, it is the same one."""
    then = proc.fingerprint(text_of(name=name))
    assert (then.has_mm, proc.ended(then, text_of(name=later))) == (True, CURRENT)


@pytest.mark.parametrize(
    ("now", "ended"),
    [
        ({"start_code": 12288}, EXEC),
        ({"start_stack": 12288}, EXEC),
        ({"flags": PF_FORKNOEXEC}, EXEC),
        ({"flags": 0x400100}, CURRENT),
        ({"state": "Z"}, EXITED),
        ({"state": "X"}, EXITED),
        ({"state": "T"}, CURRENT),
        ({"state": "t"}, CURRENT),
        ({"state": "D"}, CURRENT),
        ({"flags": PF_EXITING}, EXITED),
        ({"flags": PF_EXITING, "start_code": 0, "start_stack": 0}, EXITED),
        ({"start_code": 0}, EXEC),
        ({"start_code": 0, "start_stack": 0}, EXEC),
        ({"start_code": 1, "start_stack": 0}, REFUSED),
    ],
    ids=str,
)
def test_ended(proc: Directory, now: dict[str, object], ended: int) -> None:
    """An exec, an end and a loss of permission are told apart by stat alone."""
    then = proc.fingerprint(text_of())
    assert proc.ended(then, text_of(**now)) == ended  # type: ignore[arg-type]


def test_first_exec_of_a_vforked_child(proc: Directory) -> None:
    """The child of a vfork that execs with the same addresses is told by its flags."""
    then = proc.fingerprint(text_of(flags=PF_FORKNOEXEC))
    assert proc.ended(then, text_of()) == EXEC


@pytest.mark.parametrize("text", [b"", b"77", b"77 (python", b"77 (python) S 1 2 3"])
def test_no_stat(proc: Directory, text: bytes) -> None:
    """Text that is not a stat is an error, and no address space."""
    with pytest.raises(OSError, match="stat"):
        proc.fingerprint(text)
