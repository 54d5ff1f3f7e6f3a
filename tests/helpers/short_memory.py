"""A cgroup that is short of memory: what makes pressure, for tests of its triggers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from helpers.targets import MIB
from helpers.waiting import until
from pmadvise._proc.cgroups import hierarchies

HOG = """
import mmap, os
open(os.path.join({path!r}, "cgroup.procs"), "w").write(str(os.getpid()))
memory = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
while True:
    for offset in range(0, len(memory), mmap.PAGESIZE):
        memory[offset] = 1
"""


@contextlib.contextmanager
def short_of_memory(cgroup: Path) -> Iterator[None]:
    """Let a process in a cgroup touch more memory than it may have."""
    hog = subprocess.Popen([sys.executable, "-c", HOG.format(path=str(cgroup))])
    try:
        yield
    finally:
        hog.kill()
        hog.wait()


@contextlib.contextmanager
def small_cgroup_of_its_own() -> Iterator[Path]:
    """A cgroup whose processes may have 32 MiB in memory: of v2, or else of v1."""
    for hierarchy in hierarchies():
        mount = Path(os.fsdecode(hierarchy.mount))
        if hierarchy.version == 2:
            if "memory" not in (mount / "cgroup.controllers").read_text().split():
                continue
            (mount / "cgroup.subtree_control").write_text("+memory")
            limit = "memory.max"
        elif b"memory" in hierarchy.controllers:
            limit = "memory.limit_in_bytes"
        else:
            continue
        path = mount / f"pmadvise-test-{os.getpid()}-pressure"
        path.mkdir()
        (path / limit).write_text(str(32 * MIB))
        yield path
        procs = path / "cgroup.procs"
        until(lambda procs=procs: not procs.read_text(), "its processes are gone")  # type: ignore[misc]
        path.rmdir()
        return
    raise AssertionError("no hierarchy has the memory controller")
