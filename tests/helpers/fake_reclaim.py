"""A reclaim() of no cgroup, for machines whose cgroups have no memory.reclaim."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.command import IMPORT_PATH
from helpers.targets import MIB
from helpers.waiting import DEADLINE
from pmadvise.cgroup import CgroupMemory, Reclaimed

BEFORE = CgroupMemory(900 * MIB, 500 * MIB, 300 * MIB, 100 * MIB, 0)
AFTER = CgroupMemory(836 * MIB, 450 * MIB, 286 * MIB, 100 * MIB, 50 * MIB)


def account(**fields: Any) -> Reclaimed:
    """Return the account of a reclaim() of 64 MiB, with other fields."""
    known = {
        "requested": 64 * MIB,
        "reclaimed": 64 * MIB,
        "ended": "complete",
        "calls": 8,
        "elapsed": 0.5,
        "before": BEFORE,
        "after": AFTER,
    }
    return Reclaimed(**{**known, **fields})


def reclaim(
    _cgroup: str,
    size: int,
    *,
    stop: Callable[[], object],
    on_progress: Callable[[int, int], object],
    **_: object,
) -> Reclaimed:
    """Count a MiB each 5 ms, until it is stopped, or all of it is done."""
    done, begin = 0, time.monotonic()
    while done < size and not stop():
        assert time.monotonic() - begin < DEADLINE
        time.sleep(0.005)
        done = min(done + MIB, size)
        on_progress(done, size)
    ended = "complete" if done == size else "cancelled"
    return account(requested=size, reclaimed=done, ended=ended)


PATCH = """
import pmadvise.cgroup
from helpers import fake_reclaim

pmadvise.cgroup.reclaim = fake_reclaim.reclaim
"""


def patched(directory: Path) -> dict[str, str]:
    """Return variables with which the command has the reclaim() of this module.

    Args:
        directory: For a file that Python reads as it starts.
    """
    (directory / "sitecustomize.py").write_text(PATCH)
    return {"PYTHONPATH": os.pathsep.join([str(directory), IMPORT_PATH])}
