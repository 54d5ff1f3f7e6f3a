"""Processes to be held, and cgroups to freeze, for the tests."""

from __future__ import annotations

import array
import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmadvise._proc.identity import Identity
from pmadvise.hold import Hold, hold, shared

DEADLINE = 20.0
"""Seconds after which a condition that must come true has failed."""

COUNTERS = 4
THREADS = """
import mmap, sys, threading, time
counters = memoryview(mmap.mmap(int(sys.argv[1]), 32)).cast("Q")
def count(i):
    while True:
        counters[i] += 1
        time.sleep(0.0002)
for i in range(2):
    threading.Thread(target=count, args=(i,), daemon=True).start()
print("ready", flush=True)
count(2)
"""
"""Three threads, each counting its steps."""


def until(condition: Callable[[], Any], what: str = "condition") -> Any:
    """Return what `condition` returns as soon as it is true."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:.0f} s"
        time.sleep(0.001)
    return value


def hold_census() -> tuple[object, ...]:
    """Return what this process has open, runs and keeps: the same before and after."""
    children = "".join(
        path.read_text() for path in Path("/proc/self/task").glob("*/children")
    )
    return (
        sorted(os.listdir("/proc/self/fd"), key=int),
        sorted(os.listdir("/proc/self/task")),
        children,
        shared.held(),
    )


class Running:
    """A process started for a test, by its pidfd and /proc directory."""

    def __init__(
        self, code: str = THREADS, *arguments: str, wait: str = "ready", **popen: Any
    ) -> None:
        with tempfile.TemporaryFile() as file:
            file.truncate(8 * COUNTERS)
            self._memory = mmap.mmap(file.fileno(), 8 * COUNTERS)
            self.popen = subprocess.Popen(
                [sys.executable, "-c", code, str(file.fileno()), *arguments],
                pass_fds=(file.fileno(), *popen.pop("pass_fds", ())),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                **popen,
            )
        self.pid = self.popen.pid
        self.identity = Identity.open(self.pid)
        if wait:
            assert self.line() == wait

    def line(self) -> str:
        """Return the next line it prints."""
        assert self.popen.stdout is not None
        return str(self.popen.stdout.readline()).strip()

    def hold(self, method: str = "auto", *args: Any, **kwargs: Any) -> Hold:
        return hold(self.identity, method, *args, **kwargs)

    def steps(self) -> list[int]:
        """Return how many steps each of its threads has made."""
        return list(array.array("Q", self._memory[:]))

    def threads(self) -> dict[int, dict[str, str]]:
        """Return /proc/PID/task/TID/status of each thread."""
        found = {}
        for tid in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{self.pid}/task/{tid}/status").read_text()
                found[int(tid)] = {
                    key: value.strip()
                    for key, _, value in (
                        line.partition(":") for line in text.splitlines()
                    )
                }
        return found

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

    def steps_within(self, seconds: float) -> bool:
        """Return whether its first thread made a step, after at most `seconds`."""
        before, end = self.steps()[0], time.monotonic() + seconds
        while self.steps()[0] == before:
            if time.monotonic() > end:
                return False
            time.sleep(0.0001)
        return True

    def is_running(self) -> bool:
        """Return whether it is neither stopped, traced nor frozen."""
        if set(self.states()) <= set("Tt"):
            return False
        events = Path("/proc", str(self.pid), "cgroup").read_text()
        path = events.partition("0::")[2].partition("\n")[0]
        mount = mount_of(2)
        if mount is None:
            return True
        state = Path(f"{mount}{path}", "cgroup.events")
        return not (state.exists() and "frozen 1" in state.read_text())

    def moves_on(self) -> None:
        """Wait until the first of its threads has made a step."""
        before = self.steps()[0]
        until(lambda: self.steps()[0] > before, "it goes on")

    def close(self) -> None:
        self.popen.kill()
        # A cgroup of v1 keeps what is frozen from dying: it is thawed by its fixture.
        self.popen.communicate()
        self.identity.close()
        self._memory.close()


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

    def child(self) -> Cgroup:
        return Cgroup(self.path / "below", self._control, self._thaw, self._freeze)

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


def mount_of(version: int) -> Path | None:
    """Return where a hierarchy that can freeze is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if (version == 2 and kind == "cgroup2") or (
            version == 1 and kind == "cgroup" and "freezer" in options.split(",")
        ):
            return Path(left.split()[4])
    return None


@contextlib.contextmanager
def cgroup_of(version: int) -> Iterator[Cgroup]:
    mount = mount_of(version)
    if mount is None:
        pytest.skip(f"no cgroup v{version} hierarchy that can freeze is mounted")
    name = f"pmadvise-test-{os.getpid()}"
    if version == 2:
        cgroup = Cgroup(mount / name, "cgroup.freeze", "0", "1")
    else:
        cgroup = Cgroup(mount / name, "freezer.state", "THAWED", "FROZEN")
    try:
        yield cgroup
    finally:
        cgroup.close()
