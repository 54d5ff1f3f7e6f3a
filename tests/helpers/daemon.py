"""The daemon of docs/examples/pressured, as a process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.command import IMPORT_PATH
from helpers.needs import ROOT
from helpers.targets import MIB, Target
from helpers.waiting import DEADLINE, until
from pmadvise import Status

EMPTY = Status("x", 0, 1, "S", 1, 0, 0, 0, 0, 0, 0, 0.0, 0, 0.0)
FULL = {"memory_current": 95 * MIB, "memory_max": 100 * MIB}
PROGRAM = ROOT / "docs/examples/pressured/pressured.py"


def command(*arguments: object) -> list[str]:
    """Return the command line of the daemon."""
    return [sys.executable, str(PROGRAM), *map(str, arguments)]


class Scripted:
    """Stands for a Process that is asleep: its next status is given."""

    pid, alive = 1 << 22, True  # above any

    def __init__(self, status: Status | None) -> None:
        self.next = status

    def status(self) -> Status:
        """Return the status; None stands for a process that has gone."""
        if self.next is None:
            raise ProcessLookupError
        return self.next


class FakeCgroup:
    """A directory with the files of a cgroup, as full as a test says."""

    def __init__(self, path: Path, *pids: int, **files: object) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self.write(**files)
        self.members(*pids)

    def write(self, **files: object) -> None:
        """Write files; _ stands for the first dot."""
        for name, value in files.items():
            (self.path / name.replace("_", ".", 1)).write_text(f"{value}\n")

    def members(self, *pids: int) -> None:
        """Let it have these processes."""
        text = "".join(f"{pid}\n" for pid in pids)
        (self.path / "cgroup.procs").write_text(text)


class Daemon:
    """The daemon at work on a cgroup, with what it has printed.

    Args:
        cgroup: A directory.
        scratch: Another, for its files.
        *arguments: More of the command line.
        stdout: Where it is to print instead.
        under: A program, with its arguments, that runs it.
        **popen: Options of subprocess.Popen.
    """

    def __init__(
        self,
        cgroup: bytes | Path,
        scratch: Path,
        *arguments: object,
        stdout: int = subprocess.PIPE,
        under: tuple[str, ...] = (),
        **popen: Any,
    ) -> None:
        self.lock = scratch / "lock"
        self.port = free_port()
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(scratch / "notify"))
        self.heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.lines: list[dict[str, Any]] = []
        with tempfile.TemporaryFile() as errors:
            self.process = subprocess.Popen(
                [
                    *under,
                    *command(
                        *("--cgroup", os.fsdecode(cgroup), "--lock", self.lock),
                        *("--listen", f"127.0.0.1:{self.port}", *arguments),
                    ),
                ],
                env={
                    **os.environ,
                    "PYTHONPATH": IMPORT_PATH,
                    "NOTIFY_SOCKET": str(scratch / "notify"),
                },
                stdout=stdout,
                stderr=errors,
                text=True,
                **popen,
            )
            self._reader = threading.Thread(target=self._read)
            self._reader.start()
            self._listener = threading.Thread(target=self._listen)
            self._listener.start()
            if self.process.stdout is not None:
                self.event("ready")
            else:
                assert self.notification() == "READY=1"

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(json.loads(line))

    def _listen(self) -> None:
        while told := self.notified.recv(4096):
            self.heard.put(told.decode())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines about an event so far."""
        return [line for line in self.lines if line["event"] == name]

    def event(self, name: str) -> dict[str, Any]:
        """Return the first line about an event, which may have to come yet."""

        def found() -> list[dict[str, Any]]:
            assert self.process.poll() is None or self._reader.is_alive(), self.lines
            return self.events(name)

        return until(found, f"the event {name}")[0]

    def metric(self, line: str) -> float:
        """Return the value of a metric, given with its labels; 0 without it."""
        return self.values(line).get(line, 0.0)

    def values(self, start: str) -> dict[str, float]:
        """Return the metrics that begin so, with their labels."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            lines = answer.read().decode().split("\n")
        pairs = (line.rpartition(" ") for line in lines if line.startswith(start))
        return {name: float(value) for name, _, value in pairs}

    def acts(self) -> float:
        """Return how often it acted."""
        return sum(self.values("pressured_acts_total").values())

    def n_descriptors(self) -> int:
        """Return how many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def notification(self) -> str:
        """Return what it tells systemd next."""
        return self.heard.get(timeout=DEADLINE)

    def terminate(self) -> int:
        """Ask it to end; return its status."""
        self.process.terminate()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return self.process.returncode

    def close(self) -> None:
        """Leave nothing of it behind."""
        self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE)
        self.notified.shutdown(socket.SHUT_RD)  # ends the listener
        self._listener.join(DEADLINE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.notified.close()


@contextlib.contextmanager
def started(
    cgroup: bytes | Path, scratch: Path, *arguments: object, **options: Any
) -> Iterator[Daemon]:
    """Run the daemon, and end it."""
    daemon = Daemon(cgroup, scratch, *arguments, **options)
    try:
        yield daemon
    finally:
        daemon.close()


class Idle(Target):
    """A process that sleeps, with memory."""

    def __init__(self, size: int = 32 * MIB, **popen: Any) -> None:
        super().__init__(**popen)
        self.area = self.filled(size)

    @property
    def swapped(self) -> int:
        """Its bytes in swap."""
        return self.status("VmSwap")


def is_out(target: Idle) -> None:
    until(lambda: target.swapped > 4 * MIB, "the idle process is in swap")


def goes_on(running: Daemon) -> None:
    """It looks, can be asked, and ends when told to."""
    while not running.heard.empty():
        running.notification()
    until(lambda: running.notification() == "WATCHDOG=1", "another look")
    assert running.metric("pressured_last_look_timestamp_seconds") > 0
    assert running.terminate() == 0


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the daemon, which is to end by itself."""
    return subprocess.run(
        command(*arguments),
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        **options,
    )


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
