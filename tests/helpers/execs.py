"""Targets that execute a shell, which stops itself."""

from __future__ import annotations

import os

from helpers.targets import Target
from helpers.waiting import wait_for_state
from pmadvise import Process

SHELL = os.path.realpath("/bin/sh")
AT_REST = ["sh", "-c", "kill -STOP $$"]


def exec_shell(target: Target) -> None:
    """Let the target exec, and return once it is stopped."""
    target.run_detached(f"os.execv({SHELL!r}, {AT_REST})")
    wait_for_state(target.pid, "T")


def is_shell(process: Process) -> bool:
    """Return whether the shell is in the latest maps."""
    return process.maps().select(path=SHELL).total > 0
