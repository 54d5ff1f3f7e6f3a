"""What support() answers about targets, beside what the calls then raise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from helpers import proc
from helpers.answers import ask, target_support
from helpers.targets import Target
from helpers.waiting import wait_for_state

from pmadvise import Advice, Process, pidfd_open, support
from pmadvise._native.process_madvise import probe
from pmadvise.advice import REMOTE


@pytest.mark.needs_root
def test_target_that_may_be_advised(target: Target) -> None:
    """Of a child of root's all advices are allowed, and no call is refused."""
    asked = ask(target.pid)
    assert (bool(asked.target.may), asked.refused) == (True, {})
    assert {one for one, answer in asked.target.advice.items() if answer} == set(REMOTE)
    assert bool(asked.target.pages) is True


def test_kernel_thread() -> None:
    """It has no memory of its own, and support() names it."""
    may = target_support(proc.kthreadd()).may
    assert (may.refused_by, "a kernel thread" in may.reason) == ("memory", True)


def test_zombie(target: Target) -> None:
    """A zombie has exited, and support() names it."""
    target.popen.kill()
    wait_for_state(target.pid, "Z")
    asked = ask(target.pid)
    assert "a zombie" in asked.target.may.reason
    assert asked.refused["check"].kind == "ProcessLookupError"


def test_leader_that_has_exited(target: Target) -> None:
    """A process whose leader has exited has no memory that can be reached."""
    target.thread()
    target.run_detached("libc.pthread_exit(None)")
    wait_for_state(target.pid, "Z")
    may = target_support(target.pid).may
    assert (may.refused_by, "leader has exited" in may.reason) == ("memory", True)


def test_reaped(target: Target) -> None:
    """A process that has gone has exited, by handle and by ID."""
    with Process(target.pid) as process:
        target.kill()
        answers = [target_support(about).may for about in (process, target.pid)]
    assert [answer.refused_by for answer in answers] == ["exited", "exited"]
    assert target_support(target.pid).pid == target.pid


def test_own_process() -> None:
    """The own process may be advised where the kernel asks no capability for it."""
    pidfd = pidfd_open(os.getpid())
    allowed = probe(pidfd, Advice.COLD) == 0
    os.close(pidfd)
    assert bool(target_support(os.getpid()).may) == allowed


class Owner:
    """An owner of a pidfd that pmadvise does not know."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def fileno(self) -> int:
        return self._pidfd


def test_any_owner_of_a_pidfd(target: Target) -> None:
    """A Process, its ID, and any owner of its pidfd are the same target."""
    with Process(target.pid) as process:
        found = [support(one).target for one in (process, Owner(target.pidfd))]
    assert found == [support(target.pid).target] * 2


@pytest.mark.parametrize(
    ("about", "error"),
    [
        ("1", TypeError),
        (1.0, TypeError),
        (True, TypeError),
        (object(), TypeError),
        (1 << 40, ValueError),
        (0, OSError),
        (-1, OSError),
    ],
)
def test_what_is_no_target(about: Any, error: type[Exception]) -> None:
    """A value that can't name a process is an error, and no answer."""
    with pytest.raises(error):
        support(about)


def test_file_that_is_no_pidfd(tmp_path: Path) -> None:
    """A file descriptor of another kind is a ValueError."""
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(ValueError, match="pidfd"),
    ):
        support(file)


def test_refused_target_leaves_nothing_open(tmp_path: Path) -> None:
    """A target that is refused leaves no file descriptor open."""
    with (tmp_path / "file").open("wb") as file:
        before = proc.open_files()
        with pytest.raises(ValueError, match="pidfd"):
            support(file)
        assert proc.open_files() == before


def test_closed_process(target: Target) -> None:
    """A closed Process is a ValueError, as everywhere."""
    process = Process(target.pid)
    process.close()
    with pytest.raises(ValueError, match="closed"):
        support(process)
