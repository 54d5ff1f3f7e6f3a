"""Advise the targets within one budget and one time, and collect the results."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import FrameType

from pmadvise.advice import Advice
from pmadvise.command.forecast import forecast
from pmadvise.command.selection import Selection
from pmadvise.command.targets import Target
from pmadvise.command.types import Share
from pmadvise.group import advise_each
from pmadvise.memory import swap
from pmadvise.process import Process
from pmadvise.ranges import Ranges
from pmadvise.report import Ended, Report

_METHODS = {
    Advice.COLD: Process.cold,
    Advice.PAGEOUT: Process.pageout,
    Advice.WILLNEED: Process.willneed,
    Advice.COLLAPSE: Process.collapse,
}


@dataclass(frozen=True)
class Order:
    """What to do, and within which limits."""

    advice: Advice
    selection: Selection
    budget: int | None = None
    swap_floor: int = 0
    max_stall: float | None = 0.05
    timeout: float | None = None
    hold: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a target."""

    target: Target
    report: Report | None
    error: OSError | None = None


class Observer:
    """Is told of the progress; this one does not care."""

    def begin(self, target: Target) -> None:
        """A target's turn begins."""

    def progress(self, done: int, total: int) -> None:
        """So many bytes of the present target are done, of so many."""

    def end(self) -> None:
        """The last target's turn has ended."""


class Interrupts:
    """Ctrl-C asks the work to stop, and a second one stops it: a context manager."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __enter__(self) -> Interrupts:
        """Take over SIGINT."""
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.event.is_set():
            raise KeyboardInterrupt
        self.event.set()


def bytes_of(share: Share, targets: Iterable[Target], advice: Advice) -> int:
    """Return a share of the memory of targets: in memory, for WILLNEED in swap."""
    total = 0
    for target in targets:
        if target.process is not None:
            with contextlib.suppress(OSError):
                status = target.process.status()
                total += status.swap if advice == Advice.WILLNEED else status.rss
    return math.floor(total * share.percent / 100)


def advise(
    targets: Iterable[Target], order: Order, stop: threading.Event, observer: Observer
) -> list[Outcome]:
    """Advise the targets in their order; one that is dead or refuses stops nobody."""
    work = _Work(order, stop, observer)
    try:
        if order.selection.is_default and order.hold is None and not order.dry_run:
            work.advise_each(list(targets))
        else:
            for target in targets:
                work.advise(target)
    finally:
        observer.end()
    return work.outcomes


class _Work:
    """The outcomes so far, and the rest of the limits."""

    def __init__(self, order: Order, stop: threading.Event, observer: Observer) -> None:
        self._order, self._stop, self._observer = order, stop, observer
        self._left = order.budget
        self._began = time.monotonic()
        self._floor = order.swap_floor if order.advice == Advice.PAGEOUT else 0
        self._hit_floor = False
        self.outcomes: list[Outcome] = []

    def advise_each(self, targets: list[Target]) -> None:
        """Let the package share out the budget: the default selection of each."""
        order = self._order
        able = {id(t.process): t for t in targets if t.process and t.error is None}
        found: dict[int, Report | OSError] = {}

        def handles() -> Iterator[Process]:
            for target in able.values():
                self._observer.begin(target)
                assert target.process is not None
                yield target.process

        try:
            results = advise_each(
                handles(),
                order.advice,
                budget=order.budget,
                swap_floor=self._floor,
                cancel=self._stop,
                max_stall=order.max_stall,
                timeout=order.timeout,
                on_progress=self._observer.progress,
                measure=True,
            )
        except KeyboardInterrupt as error:  # the second Ctrl-C
            results = [*getattr(error, "reports", ())]
            report = getattr(error, "report", None)
            if report is not None and len(results) < len(able):
                found[list(able)[len(results)]] = report
        found.update((id(process), result) for process, result in results)
        for target in targets:
            result = found.get(id(target.process)) if target.process else None
            if result is None:
                none = None if target.error else self._nothing("cancelled")
                self.outcomes.append(Outcome(target, none, target.error))
            elif isinstance(result, OSError):
                done = getattr(result, "report", None)
                self.outcomes.append(Outcome(target, done, result))
            else:
                self.outcomes.append(Outcome(target, result))

    def advise(self, target: Target) -> None:
        """Advise one target; the same rules as advise_each()."""
        if target.process is None or target.error is not None:
            self.outcomes.append(Outcome(target, None, target.error))
            return
        ended = self._due()
        if ended is not None:
            self.outcomes.append(Outcome(target, self._nothing(ended)))
            return
        self._observer.begin(target)
        error: OSError | None = None
        report: Report | None
        try:
            report = self._advise(target.process)
        except OSError as raised:
            error = raised
            report = getattr(raised, "report", None)
        except KeyboardInterrupt as raised:
            self._stop.set()
            report = getattr(raised, "report", None) or self._nothing("cancelled")
        self.outcomes.append(Outcome(target, report, error))

    def _advise(self, process: Process) -> Report:
        order = self._order
        with contextlib.ExitStack() as stack:
            if order.hold is not None and not order.dry_run:
                stack.enter_context(process.hold(order.hold))
            ranges = None
            if not order.selection.is_default:
                ranges = order.selection.of(process, order.advice)
            budgets = [n for n in (self._left, self._free_swap()) if n is not None]
            budget = min(budgets, default=None)
            if order.dry_run:
                report = forecast(process, order.advice, ranges, budget)
                self._use(report.advised)
                return report
            counted = self._counted(process, ranges)
            report = _METHODS[order.advice](
                process,
                ranges,
                max_stall=order.max_stall,
                budget=budget,
                timeout=self._time_left(),
                cancel=self,
                on_progress=self._observer.progress,
                measure=True,
            )
        self._use(min(counted, report.advised))
        if report.ended == "cancelled" and self._hit_floor:
            return replace(report, ended="budget")
        return report

    def _counted(self, process: Process, ranges: Ranges | None) -> float:
        """Return the bytes of ranges that a budget counts; infinity: all of them."""
        if self._left is None or ranges is None:
            return math.inf
        resident = process.resident(ranges).total
        if self._order.advice == Advice.WILLNEED:
            return ranges.total - resident
        return resident

    def _use(self, n_bytes: float) -> None:
        if self._left is not None:
            self._left = max(self._left - int(n_bytes), 0)

    def _free_swap(self) -> int | None:
        return max(swap().free - self._floor, 0) if self._floor else None

    def _time_left(self) -> float | None:
        timeout = self._order.timeout
        if timeout is None:
            return None
        return max(timeout - (time.monotonic() - self._began), 0.0)

    def is_set(self) -> bool:
        """Return whether the work is to end: this is the Cancel of each advise()."""
        self._hit_floor = self._free_swap() == 0
        return self._stop.is_set() or self._hit_floor

    def _due(self) -> Ended | None:
        """Return why no other target is to be advised."""
        if self._stop.is_set():
            return "cancelled"
        if self._time_left() == 0:
            return "timeout"
        return "budget" if self._left == 0 or self._free_swap() == 0 else None

    def _nothing(self, ended: Ended) -> Report:
        return Report(self._order.advice, 0, 0, (), 0, 0.0, 0.0, ended)
