"""Processes to be held, and cgroups to freeze, for the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.hold_programs import COUNTERS, THREADS
from helpers.needs import cgroup_mount
from helpers.targets import CountingProcess
from helpers.waiting import DEADLINE, until
from pmadvise._handle.identity import Identity
from pmadvise.hold import METHODS, Hold, hold
from pmadvise.hold.freezer import frozen_cgroups
from pmadvise.hold.shared import stops

FROZEN_ONLY = (pytest.mark.needs_root, pytest.mark.needs_cgroup2)
every_method = pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=FROZEN_ONLY if method == "freezer" else ())
        for method in (*METHODS, "auto")
    ],
)


def hold_census() -> frozenset[str]:
    """Return what this process has: open files, threads, children, hold_entries()."""
    children = b""
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            children += path.read_bytes()
    return frozenset(
        [
            *(f"file {fd}" for fd in os.listdir("/proc/self/fd")),
            *(f"thread {tid}" for tid in os.listdir("/proc/self/task")),
            *(f"child {int(pid)}" for pid in children.split()),
            *hold_entries(),
        ]
    )


def hold_entries() -> list[str]:
    """Return the entries in this process's tables of holds and of frozen cgroups."""
    return [
        *(f"hold of {key}" for key in tuple(stops)),
        *(f"frozen cgroup {key}" for key in tuple(frozen_cgroups)),
    ]


def check_nothing_left(before: frozenset[str]) -> None:
    """Check that a census finds nothing that was not there before."""
    until(
        lambda: hold_census() <= before,
        f"nothing is left of {sorted(hold_census() - before)}",
    )


def _python(code: str) -> list[str]:
    """Return the interpreter for a program; without `site`, it starts twice as fast."""
    return [sys.executable, "-c" if "import Process" in code else "-ISc"]


class Running(CountingProcess):
    """A process started for a test, by its pidfd and /proc directory.

    Args:
        code: Of helpers.hold_programs; the memory is its first argument.
        arguments: Its other arguments.
        wait: The line that it prints first; "" for none.
        popen: For subprocess.Popen.
    """

    def __init__(
        self, code: str = THREADS, *arguments: str, wait: str = "ready", **popen: Any
    ) -> None:
        def command(memory: int) -> list[str]:
            return [*_python(code), code, str(memory), *arguments]

        super().__init__(command, COUNTERS, **popen)
        self.identity = Identity.open(self.pid)
        if wait:
            assert self.line() == wait

    def hold(
        self, method: str = "auto", timeout: float = DEADLINE, *args: Any, **kwargs: Any
    ) -> Hold:
        """Return a hold of it, with the time that a busy machine may take."""
        return hold(self.identity, method, timeout, *args, **kwargs)

    def steps(self) -> list[int]:
        """Return how many steps each of its threads has made."""
        return self.counters()

    def threads(self) -> dict[int, dict[str, str]]:
        """Return /proc/PID/task/TID/status of each thread."""
        statuses = {}
        for tid in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{self.pid}/task/{tid}/status").read_text()
                statuses[int(tid)] = {
                    key: value.strip()
                    for key, _, value in (
                        line.partition(":") for line in text.splitlines()
                    )
                }
        return statuses

    def states(self) -> str:
        """Return the states of its threads, one letter each."""
        return "".join(sorted(s["State"][0] for s in self.threads().values()))

    def tracers(self) -> set[int]:
        return {int(status["TracerPid"]) for status in self.threads().values()}

    def goes_on(self) -> None:
        """Wait until each of its three threads has made steps."""
        before = self.steps()

        def moved() -> bool:
            return all(b > a for a, b in zip(before[:3], self.steps()[:3], strict=True))

        until(moved, "every thread goes on")

    def moves_on(self) -> None:
        """Wait until the first of its threads has made a step."""
        before = self.steps()[0]
        until(lambda: self.steps()[0] > before, "it goes on")

    def cgroup(self) -> Path:
        """Return the directory of its cgroup of v2, if that is mounted."""
        path = Path("/proc", str(self.pid), "cgroup").read_text()
        path = path.partition("0::")[2].partition("\n")[0]
        return Path(f"{cgroup_mount(2)}{path}")

    def is_held(self) -> bool:
        """Return whether it is stopped, traced or frozen, by /proc and its cgroup."""
        if set(self.states()) <= set("Tt"):
            return True
        state = self.cgroup() / "cgroup.events"
        return state.exists() and "frozen 1" in state.read_text()

    def check_free(self, method: str) -> None:
        """Check that it runs, and that the next hold really stops it."""
        self.goes_on()
        with self.hold(method, 20) as again:
            assert self.is_held()
            before = self.steps()
            time.sleep(0.001)  # it would have made some steps
            assert self.steps() == before
        assert again.broken is None
        self.goes_on()

    def close(self) -> None:
        """Leave nothing of it behind; a fixture has thawed it, if a test froze it."""
        super().close()
        self.identity.close()


class Cgroup:
    """A cgroup of the test's own."""

    def __init__(self, path: Path, control: str, thaw: str, freeze: str) -> None:
        self.path = path
        self._control, self._thaw, self._freeze = control, thaw, freeze
        path.mkdir()

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def freeze(self) -> None:
        (self.path / self._control).write_text(self._freeze)
        until(self.frozen, "the cgroup is frozen")

    def thaw(self) -> None:
        (self.path / self._control).write_text(self._thaw)

    def frozen(self) -> bool:
        if self._control == "freezer.state":
            return (self.path / self._control).read_text() == "FROZEN\n"
        return "frozen 1\n" in (self.path / "cgroup.events").read_text()

    def like(self, path: Path) -> Cgroup:
        """Make another one of this hierarchy."""
        return Cgroup(path, self._control, self._thaw, self._freeze)

    def child(self) -> Cgroup:
        return self.like(self.path / "below")

    def close(self) -> None:
        """Kill what is in it, and remove it."""
        self.thaw()

        def gone() -> bool:
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                self.path.rmdir()
            except OSError:
                return False
            return True

        until(gone, f"{self.path} is removed")


@contextlib.contextmanager
def cgroup_of(version: int) -> Iterator[Cgroup]:
    mount = cgroup_mount(version)
    if mount is None:
        pytest.skip(f"no cgroup v{version} hierarchy that can freeze is mounted")
    name = f"pmadvise-test-{os.getpid()}-hold"
    if version == 2:
        cgroup = Cgroup(mount / name, "cgroup.freeze", "0", "1")
    else:
        cgroup = Cgroup(mount / name, "freezer.state", "THAWED", "FROZEN")
    try:
        yield cgroup
    finally:
        cgroup.close()
