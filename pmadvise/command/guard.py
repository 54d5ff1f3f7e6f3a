"""What is refused unless it is forced, and what is worth a warning."""

from __future__ import annotations

import errno
import os

from pmadvise.advice import Advice
from pmadvise.command.text import long_size
from pmadvise.memory import Swap

_NEARLY_FULL = 0.05


def refusal(pid: int, advice: Advice) -> OSError | None:
    """Return why a process is not to be advised without --force.

    A kernel thread has no memory, which the kernel itself reports.
    """
    if pid == 1:
        text = "process 1 is the init of this system or container"
    elif pid == os.getpid() and advice == Advice.PAGEOUT:
        text = "this is the command itself"
    else:
        return None
    return PermissionError(errno.EPERM, f"{text}: left alone without --force")


def swap_warning(advice: Advice, swap: Swap) -> str | None:
    """Return a warning about the swap that PAGEOUT will find."""
    if advice != Advice.PAGEOUT:
        return None
    if not swap.total:
        return "swap is off: anonymous memory stays in memory, files may leave it"
    if swap.free < swap.total * _NEARLY_FULL:
        return (
            f"swap is nearly full: {long_size(swap.free)} of "
            f"{long_size(swap.total)} are free"
        )
    if not swap.frees_at_once:
        return (
            "not all of the swap is zram: what goes to a disk stays in the swap cache, "
            "and in memory, until the next reclaim"
        )
    return None
