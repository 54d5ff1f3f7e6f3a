"""Idle memory of busy processes: who is tracked, and looked at, seldom and in turn.

A look holds up its target, as clear_refs takes the lock of its memory, and costs CPU
time here: so there are few, of those with most memory, one after the other.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import policy
import telemetry
from members import OWN
from options import Options
from policy import BUSY, REFUSED, SMALL, Candidate
from telemetry import log

from pmadvise import Advice, Ranges, Report

if TYPE_CHECKING:
    from pmadvise import Tracker  # it is loaded with the first tracker

WORTH = 16 << 20  # bytes of anonymous memory that are worth a tracker
MOST = 64  # trackers, each with a descriptor
PARTS = 4  # of the time of --idle-ranges, between two looks at a process
SHARE = 0.005  # of a CPU, for all looks
LOCKED = 1 / 3  # of a look, or less, the target is held up: measured
REST = 2.0  # seconds after an error of the daemon's own


@dataclass(slots=True)
class Watch:
    """A process that is tracked, or was to be."""

    one: Candidate
    tracker: Tracker | None = None
    due: float = -math.inf
    """When to look next."""
    idle: int = 0
    """Bytes that were idle for long enough at the latest look, less those advised."""
    until: float = -math.inf
    """It is not tracked until then, as that was refused."""
    refused: str = ""
    """The errno of that."""

    def close(self) -> None:
        """End the tracking."""
        tracker, self.tracker, self.idle = self.tracker, None, 0
        if tracker is not None:
            with suppress(OSError):  # of DAMON, which the next one clears away
                tracker.close()


class Tracking:
    """The trackers of all cgroups.

    Args:
        options: Those of the daemon.
        most: Trackers.
    """

    def __init__(self, options: Options, most: int = MOST) -> None:
        self.options, self.most = options, most
        self.spent = 0.0
        """Seconds of CPU time for looks, which whoever counts them sets back."""
        self._watches: dict[int, Watch] = {}
        self._wanted: list[Watch] = []
        """Those that are tracked, or to be, the most memory first."""
        self._next = -math.inf
        self._teller = telemetry.Teller("")

    def choose(self, known: Iterable[Candidate], now: float) -> None:
        """Decide who is tracked, and end the tracking of all others."""
        candidates: dict[int, Candidate] = {}
        for one in known:  # it may be of two cgroups, of which one is below the other
            candidates.setdefault(one.process.pid, one)
        for pid, watch in [*self._watches.items()]:
            if watch.one.gone or candidates.get(pid) is not watch.one:
                self._watches.pop(pid).close()
        try:
            wanted = [one for one in candidates.values() if self._is_worth(one, now)]
        except OSError as error:  # no descriptor is free to read a process's settings
            self._note_own(error, now)
            return
        wanted.sort(key=self._weight, reverse=True)
        self._wanted = [
            self._watches.setdefault(one.process.pid, Watch(one))
            for one in wanted[: self.most]
        ]
        tracked = {watch.one.process.pid for watch in self._wanted}
        for pid, watch in self._watches.items():
            if pid not in tracked:
                watch.close()
        self._show()

    def step(self, now: float) -> None:
        """Look at one process, if that is due and the CPU time allows it."""
        due = [w for w in self._wanted if w.due <= now and BUSY <= w.one.cpu < math.inf]
        if due and now >= self._next:
            self._look(min(due, key=lambda watch: watch.due), now)
            self._show()

    def ready(self, known: Iterable[Candidate], now: float) -> list[Candidate]:
        """Return the busy processes with idle memory, the most first."""
        found = [
            (watch.idle, one)
            for one in known
            if (watch := self._watches.get(one.process.pid))
            and watch.idle >= SMALL
            and policy.is_busy(one, now, self.options.exclude)
        ]
        return [one for _, one in sorted(found, key=lambda pair: -pair[0])]

    def idle(self, one: Candidate, now: float) -> Ranges:
        """Return the memory of a busy process that is idle, and may be paged out.

        After a look, if one is due; no more, as each costs the process time.
        """
        watch = self._watches[one.process.pid]
        if watch.due <= now:
            self._look(watch, now)
        if watch.tracker is None:
            return Ranges()
        try:
            idle = watch.tracker.idle(self.options.idle_ranges)
            idle &= one.process.selection(Advice.PAGEOUT)
        except (OSError, ValueError) as error:
            self._fail(watch, error, now)
            return Ranges()
        if idle.total < SMALL:
            watch.idle = 0
        return idle

    def advised(self, one: Candidate, report: Report) -> None:
        """Note what was paged out: it is gone until it is touched and idle again."""
        watch = self._watches[one.process.pid]
        watch.idle = max(watch.idle - report.advised, 0)
        if report.ended == "complete":
            watch.idle = 0
        if not self.options.dry_run:
            telemetry.IDLE_RANGES.inc(report.advised)

    def close(self) -> None:
        """End all tracking."""
        self.choose((), 0.0)

    def _weight(self, one: Candidate) -> int:
        """Return its memory; who is tracked counts twice, lest two take turns."""
        watch = self._watches.get(one.process.pid)
        is_tracked = watch is not None and watch.tracker is not None
        return one.status.anonymous * (2 if is_tracked else 1)

    def _is_worth(self, one: Candidate, now: float) -> bool:
        """Return whether to track a process, or to go on."""
        watch = self._watches.get(one.process.pid)
        if watch is not None and watch.until > now:
            return False
        if watch is None or watch.tracker is None:
            is_large = one.status.anonymous >= WORTH
            return is_large and policy.is_busy(one, now, self.options.exclude)
        reason = policy.why_not(one, now, self.options.exclude)
        return reason in ("", "busy", "backoff", "new") and not one.why_important(now)

    def _look(self, watch: Watch, now: float) -> None:
        """Look at a process, for the first time too."""
        began = time.thread_time()
        try:
            if watch.tracker is None:
                watch.tracker = watch.one.process.track()
            else:
                watch.tracker.look()
        except (OSError, ValueError, MemoryError) as error:
            self._fail(watch, error, now)
        cost = time.thread_time() - began
        self.spent += cost
        self._next = max(self._next, now + cost / SHARE)
        watch.due = now + self.options.idle_ranges / PARTS
        if watch.tracker is not None:
            self._note(watch, watch.tracker, cost, now)

    def _note(self, watch: Watch, tracker: Tracker, cost: float, now: float) -> None:
        """Note what a look has found, and what it has cost."""
        ages = tracker.ages()  # the youngest first, each with all that are older
        long = (size for age, size in ages if age >= self.options.idle_ranges)
        watch.idle = next(long, 0)
        stall = cost * LOCKED
        if tracker.source == "mappings" and stall > self.options.max_stall:
            text = (
                f"a look holds it up for about {stall * 1e3:.0f} ms, more than "
                "--max-stall: it is not tracked; a longer --max-stall allows it"
            )
            self._fail(watch, OSError(errno.ETIME, text), now)
            return
        watch.refused = ""

    def _fail(self, watch: Watch, error: Exception, now: float) -> None:
        """Note that a process can't be tracked, now or for a while."""
        watch.close()
        one, name = watch.one, telemetry.name_of(error)
        if isinstance(error, ProcessLookupError):  # it has gone, or is another program
            with suppress(OSError):
                if one.process.alive:
                    one.begin_anew()
        elif isinstance(error, ValueError):  # its handle was closed: it has gone
            one.gone = True
        elif isinstance(error, MemoryError) or getattr(error, "errno", 0) in OWN:
            self._note_own(error, now)
        else:
            telemetry.REFUSALS.labels(name).inc()
            watch.until = now + REFUSED
            if name != watch.refused:
                log("refused", **one.named(), errno=name, message=str(error))
            watch.refused = name

    def _note_own(self, error: Exception, now: float) -> None:
        """Note an error that is no process's: rest, and report it."""
        name = telemetry.name_of(error)
        telemetry.ERRORS.labels(name).inc()
        self._next = now + REST
        self._teller.tell("error", name, now, message=str(error))

    def _show(self) -> None:
        n_trackers = sum(w.tracker is not None for w in self._watches.values())
        telemetry.TRACKERS.set(n_trackers)
