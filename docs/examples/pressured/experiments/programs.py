"""The programs that run in an experiment: the workload's processes, and the daemon."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from host import MIB, Lacking, MemoryCgroup, Stopped, pause, stopping, until

from pmadvise import Process

HERE = Path(__file__).parent
NICE = "-5"  # of the daemon, as in its unit
WARM_UP = 3.0  # seconds, in which the daemon learns who is idle: two looks


class Program:
    """A process of the workload, in a cgroup."""

    def __init__(self, cgroup: MemoryCgroup, *arguments: object) -> None:
        self.popen = subprocess.Popen(
            [
                *("/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"'),
                *(f"{cgroup.path}/cgroup.procs", sys.executable),
                *(f"{HERE}/workload.py", *map(str, arguments)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us, who end all in order
        )
        self._lines = b""

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.communicate()

    def ready(self) -> Program:
        """Wait until it is set up."""
        if self._line(60) != b"ready":
            raise Lacking(f"{self.popen.args!r} ended before it was ready: for want of "
                          "memory? Its messages are above")  # fmt: skip
        return self

    def ask(self, what: str) -> None:
        """Ask for something."""
        assert self.popen.stdin
        self.popen.stdin.write(what.encode() + b"\n")
        self.popen.stdin.flush()

    def answered(self) -> bool:
        """Tell whether it has begun to answer, or has ended."""
        assert self.popen.stdout
        return bool(select.select([self.popen.stdout], [], [], 0)[0])

    def answer(self, timeout: float = 60) -> Any:  # noqa: ANN401 - of JSON
        """Wait for the answer: None if it was killed."""
        line = self._line(timeout)
        return json.loads(line)["answer"] if line else None

    def status(self) -> tuple[int, int]:
        """Return its bytes in memory, and in swap."""
        with Process(self.popen.pid) as process:
            status = process.status()
        return status.rss, status.swap

    def _line(self, timeout: float) -> bytes:
        assert self.popen.stdout
        end = time.monotonic() + timeout
        while not select.select([self.popen.stdout], [], [], 0.1)[0]:
            if stopping.is_set():
                raise Stopped
            if time.monotonic() > end:
                raise TimeoutError(f"no answer in {timeout} s: {self.popen.args!r}")
        return self.popen.stdout.readline().rstrip(b"\n")


class Daemon:
    """The daemon, on one cgroup; in a `with` statement it has learnt who is idle."""

    def __init__(
        self,
        cgroup: MemoryCgroup,
        directory: str,
        *options: str,
        warm_up: float = WARM_UP,
    ) -> None:
        self._warm_up = warm_up
        self._log = Path(directory, "log")
        self._command = [
            *("nice", "-n", NICE, sys.executable, f"{HERE.parent}/pressured.py"),
            *("--cgroup", str(cgroup.path), "--listen", "127.0.0.1:0"),
            *("--lock", f"{directory}/lock", *options),
        ]

    def __enter__(self) -> Daemon:
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                self._command, stdout=log, start_new_session=True
            )
        try:
            self._process = Process(self._popen.pid)
            until(self._ready, "the daemon is ready")
            pause(self._warm_up)
            self._began, self._cpu = time.monotonic(), self._process.status().cpu
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._process.close()

    def _ready(self) -> bool:
        if self._popen.poll() is not None:
            raise Lacking("the daemon ended: its message is above")
        return '"ready"' in self._log.read_text()

    def cpu(self) -> float:
        """Return its percentage of a CPU since it was ready."""
        used = self._process.status().cpu - self._cpu
        return 100 * used / (time.monotonic() - self._began)

    def advised(self) -> float:
        """Return the MiB that it has paged out."""
        events = map(json.loads, self._log.read_text().split("\n")[:-1])
        return float(sum(event.get("advised", 0) for event in events)) / MIB
