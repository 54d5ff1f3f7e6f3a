"""Paths that are looked up: what a signal handler raises meanwhile goes through."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pmadvise import _members
from pmadvise._proc.files import exists
from pmadvise._proc.rights import initial_namespace, proc_is_mounted
from pmadvise._reasons.hidden import no_pressure
from pmadvise._support import host

STATS = {os.stat, os.lstat}
ABSENT = "/proc/pressure/no-such-file"
GROUP = "/proc/self"  # a directory that is no cgroup

LOOKS: dict[str, Callable[[], object]] = {
    "exists": lambda: exists("/proc/self/no-such-file"),
    "processes": lambda: list(_members.members_of_host(set())),
    "namespace": lambda: initial_namespace("no-such-kind"),
    "proc": proc_is_mounted,
    "pressure": lambda: no_pressure(ABSENT, errno.ENOENT),
    "pressure of a cgroup": lambda: no_pressure(f"{GROUP}/a/b", errno.ENOENT),
    "container": host.container,
    "own cgroup": host.own_cgroup,
}
UNNEEDED = {"container", "own cgroup"}
"""Not in a container that tells its manager, and not in the root cgroup."""


class OfHandlerError(FileNotFoundError):
    """Raised by the signal handler of a caller."""


@pytest.fixture(autouse=True)
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let SIGUSR1 raise."""
    for name in ("KUBERNETES_SERVICE_HOST", "container"):
        monkeypatch.delenv(name, raising=False)

    def raises(*_: object) -> None:
        raise OfHandlerError(errno.ENOENT, "of a handler")

    before = signal.signal(signal.SIGUSR1, raises)
    yield
    signal.signal(signal.SIGUSR1, before)


def looked_up(look: Callable[[], object], interrupted: int | None = None) -> int:
    """Return how many paths a function looks up; interrupt it at one of these."""
    count = 0

    def watch(_frame: object, event: str, function: object) -> None:
        nonlocal count
        if event == "c_call" and function in STATS:
            count += 1
            if count - 1 == interrupted:
                signal.raise_signal(signal.SIGUSR1)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        look()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", LOOKS)
def test_of_a_handler(name: str) -> None:
    """An OSError that a handler raises is not taken for the answer of the kernel."""
    look = LOOKS[name]
    count = looked_up(look)
    assert count > 0 or name in UNNEEDED
    for number in range(count):
        with pytest.raises(OfHandlerError):
            looked_up(look, number)


def test_exists(tmp_path: Path) -> None:
    """It follows links or not, and takes names as text or bytes."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "absent")
    assert exists(str(tmp_path))
    assert exists(os.fsencode(tmp_path))
    assert not exists(str(link))
    assert exists(str(link), follow_symlinks=False)
    assert not exists(f"{link}/below")
    assert not exists("x" * 300)
