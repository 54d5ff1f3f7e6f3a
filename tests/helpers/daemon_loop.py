"""The loop of docs/examples/pressured in this process, on a clock of the test's own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pressured
import relief
import telemetry
from options import load

_MOST = 8


class Loop:
    """A daemon that looks when it is told to, each look 2 s after the one before.

    Args:
        daemon: The daemon.
        lines: What it has logged.
    """

    def __init__(self, daemon: pressured.Daemon, lines: list[dict[str, Any]]) -> None:
        self.daemon, self.lines = daemon, lines
        self.now = time.monotonic()

    def look(self, n: int = 1) -> None:
        """Let it look, and act."""
        for _ in range(n):
            self.daemon.tick(False, self.now)
            self.now += pressured.LOOK

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines about an event so far."""
        return [line for line in self.lines if line["event"] == name]

    def event(self, name: str) -> dict[str, Any]:
        """Return the first line about an event, after a few looks at most."""
        for _ in range(_MOST):
            if found := self.events(name):
                return found[0]
            self.look()
        raise AssertionError(f"no {name}: {self.lines}")


@contextlib.contextmanager
def looking(cgroup: Path, *arguments: object) -> Iterator[Loop]:
    """Give a daemon without a loop of its own."""
    lines: list[dict[str, Any]] = []

    def log(event: str, **fields: Any) -> None:
        lines.append({"event": event, **fields})

    with contextlib.ExitStack() as stack:
        for module in (pressured, relief, telemetry):
            stack.enter_context(mock.patch.object(module, "log", log))
        lock = os.memfd_create("lock")
        stack.callback(os.close, lock)
        options = load(["--cgroup", str(cgroup), *map(str, arguments)])
        daemon = pressured.Daemon(options, [], lock)
        for group in daemon.groups:
            stack.callback(group.close)
        yield Loop(daemon, lines)
