"""A full cgroup of the daemon of docs/examples, with fake processes and answers."""

from __future__ import annotations

import errno
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from cgroup import Cgroup, Fill
from options import load
from policy import Candidate
from relief import SLICE, Relief

from helpers.daemon import EMPTY, FULL, FakeCgroup, Scripted
from helpers.targets import MIB
from pmadvise import CgroupMemory, Reclaimed, Report

NOW, FLOOR = 100.0, 4096
SLEEPS = replace(EMPTY, rss=64 * MIB, anonymous=64 * MIB)
OUT = replace(SLEEPS, rss=0, anonymous=0, swap=64 * MIB)
BEFORE = CgroupMemory(95 * MIB, 64 * MIB, 31 * MIB, 0, 0)
AFTER = CgroupMemory(80 * MIB, 52 * MIB, 28 * MIB, 0, 12 * MIB)
GAVE = Reclaimed(15 * MIB, 15 * MIB, "complete", 4, 0.4, BEFORE, AFTER)
WENT = Report(21, 15 * MIB, 15 * MIB, (), 1, 0.1, 0.1, "budget", SLEEPS, OUT)
REFUSAL = PermissionError(errno.EPERM, "no CAP_SYS_NICE")
NEED = Fill("/a", 95 * MIB, 100 * MIB)


class Fleet:
    """A full cgroup of two cgroups, each with processes, and what was asked of whom."""

    def __init__(self, path: Path, *options: str) -> None:
        self.top = FakeCgroup(path, **FULL).path
        self.a, self.b = (FakeCgroup(self.top / name) for name in "ab")
        self.group = Cgroup(str(self.top))
        arguments = ["--cgroup", str(self.top), f"--swap-floor={FLOOR}", *options]
        self.relief = Relief(load(arguments), lambda: False)
        self.paged_out: list[int] = []
        self.touched: list[bool] = []
        self.reclaimed: list[tuple[str, int]] = []
        self.answers: list[Reclaimed | OSError] = []
        self.outcomes: dict[int, Report | OSError] = {}

    def add(self, cgroup: FakeCgroup, *cpus: float) -> list[Candidate]:
        """Let processes be in a cgroup, each with this share of a CPU lately."""
        found = []
        for cpu in cpus:
            process: Any = Scripted(SLEEPS)
            process.pid += len(self.group.known)
            path = str(cgroup.path)
            one = Candidate(process, path, SLEEPS, NOW, cpu=cpu, asked=math.inf)
            self.group.known[process.pid] = one
            found.append(one)
        old = (cgroup.path / "cgroup.procs").read_text().split()
        cgroup.members(*map(int, old), *(one.process.pid for one in found))
        return found

    def advise_each(self, processes: list[Any], *_: Any, **options: Any) -> Any:
        """Stand for pmadvise.advise_each()."""
        self.paged_out.append(processes[0].pid)
        self.touched.append(options["touch"])
        return [(processes[0], self.outcomes.get(processes[0].pid, WENT))]

    def reclaim(self, cgroup: str, size: int, **options: Any) -> Reclaimed:
        """Stand for pmadvise.reclaim()."""
        assert (options["swap_floor"], options["timeout"]) == (FLOOR, SLICE)
        self.reclaimed.append((Path(cgroup).name, size))
        answer = self.answers.pop(0) if self.answers else GAVE
        if isinstance(answer, OSError):
            raise answer
        return answer

    def relieve(self, now: float = NOW) -> bool:
        return self.relief.relieve(self.group, now, NEED, "watermark")
