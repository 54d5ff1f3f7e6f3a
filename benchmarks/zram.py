"""Swap on /dev/zram0 for as long as it is needed; other swap stays as it is."""

from __future__ import annotations

import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

DEVICE = Path("/dev/zram0")
SETTINGS = Path("/sys/block/zram0")
ALGORITHM = "lz4"
FIRST = 32767
"""The highest priority: the kernel fills this swap before any other."""


def missing() -> str:
    """Return why it can't be set up, or nothing."""
    if not SETTINGS.is_dir():
        return "there is no /dev/zram0: modprobe zram"
    if (SETTINGS / "initstate").read_text().strip() != "0":
        return f"{DEVICE} is in use: swapoff {DEVICE} and zramctl --reset {DEVICE}"
    return ""


def swap_on_zram(stack: ExitStack, size: int) -> str:
    """Swap to zram until the stack ends; returns how memory is compressed.

    Args:
        stack: Undoes it, whatever comes in between.
        size: Bytes that it can take.
    """
    if why := missing():
        raise RuntimeError(why)
    stack.callback(_undo)
    algorithms = SETTINGS / "comp_algorithm"
    if ALGORITHM in algorithms.read_text().replace("[", "").replace("]", "").split():
        algorithms.write_text(ALGORITHM)
    (SETTINGS / "disksize").write_text(str(size))
    _do("mkswap", str(DEVICE))
    _do("swapon", "--priority", str(FIRST), str(DEVICE))
    return algorithms.read_text().partition("[")[2].partition("]")[0]


def _undo() -> None:
    both = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, both)
    try:
        if any(line.startswith(f"{DEVICE} ") for line in _swaps()):
            _do("swapoff", str(DEVICE))
        (SETTINGS / "reset").write_text("1")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _swaps() -> list[str]:
    return Path("/proc/swaps").read_text().split("\n")


def _do(*command: str) -> None:
    # In a session of its own: Ctrl-C is for us, not for swapoff.
    subprocess.run(
        command, check=True, start_new_session=True, stdout=subprocess.DEVNULL
    )
