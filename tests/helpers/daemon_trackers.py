"""Processes that the daemon of docs/examples/pressured tracks, by fakes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from policy import Candidate
from tracking import Tracking

from helpers.daemon import EMPTY, Scripted
from helpers.targets import MIB
from pmadvise import Ranges

TIME = 60.0
IDLE = Ranges([(1 << 30, 32 * MIB)])


class FakeTracker:
    """What was idle for so long is given; looks are counted."""

    source = "mappings"

    def __init__(self, process: FakeProcess) -> None:
        self.process = process
        process.n_looks += 1

    def look(self) -> None:
        if self.process.error:
            raise self.process.error
        self.process.n_looks += 1

    def ages(self) -> list[tuple[float, int]]:
        return [(0.0, 99 * MIB), (2 * TIME, self.process.idle.total)]

    def idle(self, min_age: float) -> Ranges:
        assert min_age == TIME
        return self.process.idle

    def close(self) -> None:
        self.process.n_closed += 1


class FakeProcess(Scripted):
    """A process that can be tracked, or that refuses with an error."""

    def __init__(self, number: int, mib: int) -> None:
        super().__init__(replace(EMPTY, anonymous=mib * MIB, rss=mib * MIB))
        self.pid = (1 << 22) + number
        self.error: OSError | None = None
        self.idle = IDLE
        self.n_looks = self.n_closed = self.n_maps = 0

    def track(self) -> FakeTracker:
        if self.error:
            raise self.error
        return FakeTracker(self)

    def selection(self, _: int) -> Ranges:
        return Ranges([(1 << 30, 1 << 30)])

    def maps(self) -> None:
        self.n_maps += 1


def candidate(number: int, mib: int = 64, cpu: float = 0.5) -> tuple[Any, FakeProcess]:
    process: Any = FakeProcess(number, mib)
    return Candidate(process, "/a", process.next, 0.0, cpu=cpu, asked=math.inf), process


def passed(trackers: Tracking, known: list[Any], begin: int, end: int) -> None:
    """Let each second of a time pass."""
    for now in range(begin, end):
        trackers.choose(known, now)
        trackers.step(now)
