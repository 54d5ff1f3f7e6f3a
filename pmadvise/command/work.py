"""Work of an advice: the order, and its outcomes by pmadvise.advise_each()."""

from __future__ import annotations

import errno
import math
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from pmadvise.advice import Advice
from pmadvise.command.idle import IdleMemory
from pmadvise.command.options import Share
from pmadvise.command.selection import Selection
from pmadvise.command.targets import TargetEntry, TargetProcess
from pmadvise.command.text import long_size
from pmadvise.group import advise_each
from pmadvise.memory import Swap, swap
from pmadvise.process import Process
from pmadvise.ranges import Ranges
from pmadvise.report import Ended, Report

if TYPE_CHECKING:
    from pmadvise.command.output import Output
    from pmadvise.command.progress import Bars
    from pmadvise.command.tracking import Tracking

_NEARLY_FULL = 0.05


@dataclass(frozen=True)
class Order:
    """The request: what to advise, and within which limits."""

    advice: Advice
    selection: Selection
    budget: int | None = None
    swap_floor: int = 0
    max_stall: float | None = 0.05
    timeout: float | None = None
    hold: str | None = None
    dry_run: bool = False
    idle: float | None = None
    """Seconds: only memory that is not touched for so long, which is tracked before."""
    touch: bool = False
    """Whether WILLNEED is to read the pages afterwards, which maps them."""


@dataclass(frozen=True)
class Outcome:
    """The report of a target, or the error in its place, or both."""

    target: TargetEntry
    report: Report | None
    error: OSError | None = None
    matched: bool = True
    """Whether there is any memory of the selection, in memory or not."""
    held: str | None = None
    """How it was held meanwhile."""
    idle: IdleMemory | None = None
    """The idle memory; None if it was not asked for, or not found out."""

    @property
    def ended(self) -> Ended | None:
        """The end of the report, which is "refused" for want of a right."""
        if isinstance(self.error, PermissionError):
            return "refused"
        if self.has_gone:
            return "exited"
        return None if self.report is None else self.report.ended

    @property
    def has_gone(self) -> bool:
        """Whether it is a member of a group that has exited, as members may."""
        if self.error is not None:
            return self.target.may_have_gone(self.error)
        is_over = self.report is not None and self.report.ended == "exited"
        return self.target.is_member and is_over


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


class Silence:
    """An observer of the work for those who watch no bars."""

    def begin(self, subject: str) -> None:
        """The turn of a target begins; the subject names it."""

    def progress(self, done: int, total: int) -> None:
        """So many bytes of the present target are done, of so many."""

    def end(self) -> None:
        """The last target's turn has ended."""


def observer_of(output: Output, budget: int | None = None) -> Silence | Bars:
    """Return bars where somebody may look at them.

    Args:
        output: Where they are drawn.
        budget: Bytes of progress in all; None if that is not known.
    """
    if not output.shows_progress:
        return Silence()
    from pmadvise.command.progress import Bars  # noqa: PLC0415 - slow, for a terminal

    return Bars(output, budget)


def bytes_of(share: Share, targets: Iterable[TargetEntry], advice: Advice) -> int:
    """Return a share of the memory of targets: in memory, for WILLNEED in swap."""
    statuses = [target.status for target in targets if target.status is not None]
    total = sum(s.swap if advice == Advice.WILLNEED else s.rss for s in statuses)
    return math.floor(total * share.percent / 100)


def floor_of(share: Share) -> int:
    """Return a share of the swap; OSError where it can't be seen."""
    return math.ceil(swap().total * share.percent / 100)


def swap_or_error() -> Swap | OSError:
    """Return the swap of the host, or why it can't be seen."""
    try:
        return swap()
    except OSError as error:
        return error


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


def swap_warning(advice: Advice, swap: Swap | OSError) -> str | None:
    """Return a warning about the swap that PAGEOUT will find, or that is hidden."""
    if advice != Advice.PAGEOUT:
        return None
    if isinstance(swap, OSError):
        return swap.strerror
    if not swap.total:
        return "swap is off: anonymous memory stays in memory, files may leave it"
    if swap.free < swap.total * _NEARLY_FULL:
        return (
            f"swap is nearly full: {long_size(swap.free)} of "
            f"{long_size(swap.total)} are free"
        )
    if not swap.frees_at_once:
        return (
            "not all of the swap is zram or zswap: what goes to a disk stays in the "
            "swap cache, and in memory, until the next reclaim"
        )
    return None


def advise(
    targets: Iterable[TargetEntry],
    order: Order,
    stop: threading.Event,
    observer: Silence | Bars,
    tracking: Tracking | None = None,
) -> list[Outcome]:
    """Advise the targets in their order, by advise_each(): its rules are the rules.

    With `tracking` only what is idle, of the targets that it has open.
    """
    listed = list(targets)
    turns: list[_Turn] = []
    outcomes: dict[int, Outcome] = {}

    def handles() -> Iterator[Process]:
        # One is open at a time: there may be more targets than descriptors. But those
        # that are tracked all are.
        for target in listed:
            if target.error is not None:
                continue
            if tracking is not None and stop.is_set():
                return  # not all may be open
            try:
                process = tracking.take(target) if tracking else target.open()
            except OSError as error:
                outcomes[target.pid] = Outcome(target, None, error)
                continue
            with process:
                observer.begin(target.subject)
                turns.append(_Turn(target, process))
                yield process
                turns[-1].note_hold()

    def select(process: Process) -> Ranges | None:
        if order.idle is None:
            ranges = order.selection.of(process, order.advice)
        else:
            turns[-1].idle = idle = IdleMemory(turns[-1].process, order.idle)
            ranges = idle.select(order.selection, order.advice)
            if idle.is_lost:
                return ranges
        if ranges is not None and not ranges:
            turns[-1].matched = order.selection.matches(process)
        return ranges

    results: list[Report | OSError] = []
    try:
        done = advise_each(
            handles(),
            order.advice,
            select=select,
            hold=order.hold,
            budget=order.budget,
            swap_floor=order.swap_floor,
            cancel=stop,
            max_stall=order.max_stall,
            timeout=order.timeout,
            on_progress=observer.progress,
            measure=True,
            dry_run=order.dry_run,
            touch=order.touch,
        )
        results += [result for _, result in done]
    except KeyboardInterrupt as error:  # the second Ctrl-C
        stop.set()
        results += [result for _, result in getattr(error, "reports", ())]
        report = getattr(error, "report", None)
        if report is not None and len(results) < len(turns):
            results.append(report)
    finally:
        observer.end()
    for turn, result in zip(turns, results, strict=False):
        outcomes[turn.target.pid] = turn.outcome(result)
    nothing = Report(order.advice, 0, 0, (), 0, 0.0, 0.0, "cancelled")
    return [
        outcomes.get(target.pid)
        or Outcome(target, None if target.error else nothing, target.error)
        for target in listed
    ]


@dataclass
class _Turn:
    """The turn of a target, and what is to be told of it beside the result."""

    target: TargetEntry
    process: TargetProcess
    matched: bool = True
    held: str | None = None
    idle: IdleMemory | None = None

    def note_hold(self) -> None:
        """Note how the target was held, and whether that was broken."""
        hold = self.process.held
        if hold is not None and hold.method != "auto":
            self.held = f"held meanwhile by {hold.method}"
            if hold.broken:
                self.held += f", but not all the time: {hold.broken}"

    def outcome(self, result: Report | OSError) -> Outcome:
        """Return the outcome for a result of advise_each()."""
        if isinstance(result, OSError):
            report = getattr(result, "report", None)
            if not (report and report.requested):  # refused before there was any work
                report = None
            return Outcome(self.target, report, result)
        return Outcome(self.target, result, None, self.matched, self.held, self.idle)
