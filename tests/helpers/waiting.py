"""Waiting, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from helpers import proc

DEADLINE = 30.0
"""Seconds after which a condition that must come true has failed."""
_INTERVAL = 0.001

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "condition") -> T:
    """Return what `condition` returns as soon as it is true."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:.0f} s"
        time.sleep(_INTERVAL)
    return value


def wait_for_state(pid: int, states: str) -> None:
    """Return once the state of a process in /proc/PID/stat is one of `states`."""
    until(lambda: proc.stat(pid)[0] in states, f"process {pid} in a state of {states}")
