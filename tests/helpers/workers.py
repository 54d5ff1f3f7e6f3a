"""Plugin of pytest: workers of pytest-xdist take turns, and share what they compile.

A crash is no loop.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import itertools
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.needs import ROOT

WITHOUT_SWAP = (ROOT / "tests/unit", ROOT / "tests/hold")
"""Folders of tests that all have the mark no_swap."""
HOLDING = ("tests/kernel/test_cgroup_namespace.py",)
"""Modules elsewhere that one worker runs with all of tests/hold."""

ALONE = {"host": fcntl.LOCK_EX}
OWNS_SWAP = {"host": fcntl.LOCK_SH, "swap": fcntl.LOCK_EX}
NO_SWAP = {"host": fcntl.LOCK_SH}
SHARES = {"host": fcntl.LOCK_SH, "swap": fcntl.LOCK_SH}
"""The rooms that a test is in, and how: every one enters them in the same order."""


class Turns:
    """Locks in a folder that the workers of a run share: rooms, each behind a gate.

    Ordinary tests share the rooms. One that wants a room alone waits at the open gate
    until the last of them has left, so that no test enters that would let it wait for
    longer. Wraps flock(2).
    """

    def __init__(self, folder: Path) -> None:
        self._locks = {
            room: [
                os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                for name in (f"{room}-gate", f"{room}-room")
            ]
            for room in SHARES
        }

    @contextlib.contextmanager
    def turn(self, rooms: dict[str, int]) -> Iterator[None]:
        """Wait for the turn of a test, which lasts until the end of the block."""
        with contextlib.ExitStack() as stack:
            for name, how in rooms.items():
                gate, room = self._locks[name]
                fcntl.flock(gate, fcntl.LOCK_EX)
                try:
                    fcntl.flock(room, how)
                    # Not by closing it: a child that the test leaves has it open, too.
                    stack.callback(fcntl.flock, room, fcntl.LOCK_UN)
                finally:
                    fcntl.flock(gate, fcntl.LOCK_UN)
            yield

    def close(self) -> None:
        """Close the files."""
        for fd in itertools.chain(*self._locks.values()):
            os.close(fd)


_FOLDER = pytest.StashKey[Path]()
_TURNS = pytest.StashKey[Turns]()


def keep_bytecode(folder: Path) -> None:
    """Let programs that tests start find what another has compiled, and keep it.

    Tests start hundreds of them. Where no bytecode may be written beside the sources,
    each would compile the whole package anew.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        folder.parent.chmod(0o755)  # tests give up root
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(folder))


def _rooms(item: pytest.Item) -> dict[str, int]:
    if item.get_closest_marker("isolated"):
        return ALONE
    if item.get_closest_marker("owns_swap"):
        return OWNS_SWAP
    return NO_SWAP if item.get_closest_marker("no_swap") else SHARES


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker the folder that all share."""
    node.workerinput["shared"] = str(_folder(node.config))


def _folder(config: pytest.Config) -> Path:
    """Return a folder that is gone after the run."""
    if _FOLDER not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="pmadvise-tests-")
        config.add_cleanup(folder.cleanup)
        config.stash[_FOLDER] = Path(folder.name)
    return config.stash[_FOLDER]


def pytest_configure(config: pytest.Config) -> None:
    """Let a worker take turns with the others; a run without workers needs none."""
    if shared := getattr(config, "workerinput", {}).get("shared"):
        config.stash[_FOLDER] = Path(shared)
        config.stash[_TURNS] = turns = Turns(Path(shared))
        config.add_cleanup(turns.close)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Keep bytecode from now on: workers, that have begun, do without it themselves.

    What was collected stays to the end: the collector of garbage looks at it no more,
    neither here nor in what is forked, which would copy it.
    """
    keep_bytecode(_folder(session.config) / "bytecode")
    gc.collect()
    gc.freeze()


def _scope(nodeid: str) -> str:
    """Return what one worker runs: a module, a folder, or a test."""
    path, _, _ = nodeid.partition("::")
    if path.startswith("tests/hold/") or path in HOLDING:
        return "tests/hold"
    return path if path.startswith("tests/project/") else nodeid


def _order(item: pytest.Item) -> tuple[int, bool, bool]:
    """Return the place of a test among all: by room, what takes long first."""
    rooms = (OWNS_SWAP, NO_SWAP, SHARES, ALONE)
    is_quick = item.get_closest_marker("slow") is None
    return rooms.index(_rooms(item)), is_quick, _scope(item.nodeid) == item.nodeid


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in the order in which workers idle least.

    First is what has the swap to itself, and waits most of the time; then what may run
    beside it, what takes long before the rest; then all others, modules before single
    tests. The isolated ones are last: a worker that waits for one has no other to run.
    """
    for item in items:
        if item.path.parent in WITHOUT_SWAP:
            item.add_marker("no_swap")
    items.sort(key=_order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Let one worker run a module of tests/project, and another all of tests/hold.

    The builds of such a module are made once. Tests of hold kill and reap many
    processes; where several do so at once on few CPUs, the kernel spins over the
    directory entries of /proc (d_walk() below release_task()): seconds become minutes.

    They run in the order of the tests, not the one with the most tests first.

    By `--dist loadgroup`, but without the mark xdist_group: pytest-xdist 3.8 writes it
    into the ID of a test, which pytest 9 does not let it change.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - not everywhere

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test wait for its turn, before the time begins that it may take."""
    with contextlib.ExitStack() as stack:
        if turns := item.config.stash.get(_TURNS, None):
            stack.enter_context(turns.turn(_rooms(item)))
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, sched: Any) -> None:
    """Let no worker run a test again that ended the process of another.

    pytest-xdist 3.8 does so for `--dist loadgroup`, as often as it starts a new worker.
    """
    for scope, tests in [*sched.workqueue.items()]:
        if crashitem in tests:
            tests[crashitem] = True
        # what the worker had done before is put back, too, and would never end
        if all(tests.values()):
            del sched.workqueue[scope]
