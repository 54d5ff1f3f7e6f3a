"""Plugin of pytest: the workers of pytest-xdist take turns, and a crash is no loop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest


class Turns:
    """Locks in a folder that the workers of a run share: a gate, and a room behind it.

    Ordinary tests share the room. An isolated test waits at the open gate until the
    last of them has left, so that no test begins that would let it wait for longer;
    then it has the room alone. Wraps flock(2).
    """

    def __init__(self, folder: Path) -> None:
        self._gate, self._room = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for name in ("gate", "room")
        )

    @contextlib.contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Wait for the turn of a test, which lasts until the end of the block."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # Not by closing it: a child that the test leaves has the open file, too.
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close both files."""
        os.close(self._gate)
        os.close(self._room)


_FOLDER = pytest.StashKey[str]()
_TURNS = pytest.StashKey[Turns]()


def _is_isolated(item: pytest.Item) -> bool:
    return item.get_closest_marker("isolated") is not None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker the folder that all share."""
    config: pytest.Config = node.config
    if _FOLDER not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="pmadvise-turns-")
        config.add_cleanup(folder.cleanup)
        config.stash[_FOLDER] = folder.name
    node.workerinput["turns"] = config.stash[_FOLDER]


def pytest_configure(config: pytest.Config) -> None:
    """Let a worker take turns with the others; a run without workers needs none."""
    if folder := getattr(config, "workerinput", {}).get("turns"):
        config.stash[_TURNS] = turns = Turns(Path(folder))
        config.add_cleanup(turns.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the isolated tests last: a worker that waits for one has no other to run."""
    items.sort(key=_is_isolated)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Let one worker run a module of tests/project, and another all of tests/hold.

    The builds of such a module are made once. Tests of hold kill and reap many
    processes; where several do so at once on few CPUs, the kernel spins over the
    directory entries of /proc (d_walk() below release_task()): seconds become minutes.

    By `--dist loadgroup`, but without the mark xdist_group: pytest-xdist 3.8 writes it
    into the ID of a test, which pytest 9 does not let it change.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - not everywhere

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path, _, _ = nodeid.partition("::")
            if path.startswith("tests/hold/"):
                return "tests/hold"
            return path if path.startswith("tests/project/") else nodeid

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test wait for its turn, before the time begins that it may take."""
    with contextlib.ExitStack() as stack:
        if turns := item.config.stash.get(_TURNS, None):
            stack.enter_context(turns.turn(alone=_is_isolated(item)))
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, sched: Any) -> None:
    """Let no worker run a test again that ended the process of another.

    pytest-xdist 3.8 does so for `--dist loadgroup`, as often as it starts a new worker.
    """
    for scope, tests in [*sched.workqueue.items()]:
        if crashitem in tests:
            tests[crashitem] = True
            if all(tests.values()):
                del sched.workqueue[scope]
