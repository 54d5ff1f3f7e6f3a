"""Swap on a zram device of its own for as long as needed; other swap stays as it is."""

from __future__ import annotations

import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

CONTROL = Path("/sys/class/zram-control")
ALGORITHM = "lz4"
FIRST = 32767
"""The highest priority: the kernel fills this swap before any other."""


def missing() -> str:
    """Return why it can't be set up, or nothing."""
    return "" if CONTROL.is_dir() else f"there is no {CONTROL}: modprobe zram"


def swap_on_zram(stack: ExitStack, size: int) -> str:
    """Swap to a new zram device until the stack ends; returns how it compresses.

    Args:
        stack: Undoes it, whatever comes in between.
        size: Bytes that it can take.
    """
    if why := missing():
        raise RuntimeError(why)
    number = int((CONTROL / "hot_add").read_text())
    stack.callback(_undo, number)
    settings, device = Path(f"/sys/block/zram{number}"), f"/dev/zram{number}"
    algorithms = settings / "comp_algorithm"
    if ALGORITHM in algorithms.read_text().replace("[", "").replace("]", "").split():
        algorithms.write_text(ALGORITHM)
    (settings / "disksize").write_text(str(size))
    _do("mkswap", device)
    _do("swapon", "--priority", str(FIRST), device)
    return algorithms.read_text().partition("[")[2].partition("]")[0]


def _undo(number: int) -> None:
    both = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, both)
    try:
        device = f"/dev/zram{number}"
        swaps = Path("/proc/swaps").read_text().split("\n")
        if any(line.startswith(f"{device} ") for line in swaps):
            _do("swapoff", device)
        Path(f"/sys/block/zram{number}/reset").write_text("1")
        (CONTROL / "hot_remove").write_text(str(number))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do(*command: str) -> None:
    # In a session of its own: Ctrl-C is for us, not for swapoff.
    subprocess.run(
        command, check=True, start_new_session=True, stdout=subprocess.DEVNULL
    )
