"""Work of an advice: the order, and its outcomes by pmadvise.advise_each()."""

from __future__ import annotations

import errno
import functools
import math
import operator
import os
import shlex
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from pmadvise.advice import Advice
from pmadvise.command.options import Share
from pmadvise.command.targets import TargetEntry, TargetProcess
from pmadvise.command.text import long_size
from pmadvise.group import advise_each
from pmadvise.maps import AddressSpace
from pmadvise.memory import Swap, swap
from pmadvise.process import Process
from pmadvise.ranges import Ranges
from pmadvise.report import Ended, Report

if TYPE_CHECKING:
    from pmadvise.command.progress import Bars

_NEARLY_FULL = 0.05


@dataclass(frozen=True)
class Selection:
    """The options: kinds of mappings add up, every other option narrows them."""

    anon: bool = False
    file: bool = False
    shared: bool = False
    paths: tuple[str, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    min_size: int = 0

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for, so that the advice selects."""
        return self == Selection()

    def __str__(self) -> str:
        """Return the options as they were given."""
        kinds = {"--anon": self.anon, "--file": self.file, "--shared": self.shared}
        words = [option for option, is_given in kinds.items() if is_given]
        words += [f"--path {shlex.quote(path)}" for path in self.paths]
        words += [f"--range {a:x}-{a + length:x}" for a, length in self.ranges]
        if self.min_size:
            words.append(f"--min-size {self.min_size}")
        return " ".join(words)

    def matches(self, process: Process) -> bool:
        """Return whether a mapping is what the options ask for; errors as of()."""
        return len(self._mappings(process.maps())) > 0

    def of(self, process: Process, advice: Advice) -> Ranges | None:
        """Return the ranges to advise, None for the default selection of the advice.

        Raises:
            PermissionError, ProcessLookupError: As Process.maps().
        """
        if self.is_default:
            return None
        if self.ranges and self == Selection(ranges=self.ranges):
            return Ranges(self.ranges)
        return process.selection(advice, self._mappings(process.maps()))

    def _mappings(self, space: AddressSpace) -> Ranges:
        """Return the parts of mappings asked for."""
        select = functools.partial(space.select, min_length=self.min_size)
        kinds = []
        if self.anon:
            kinds.append(select(anonymous=True, private=True))
        if self.file:
            kinds.append(select(private=True, path="/*"))
        if self.shared:
            kinds.append(select(private=False))
        if not kinds:
            # a path may be of any kind; a size alone is about the default selection
            any_kind = bool(self.paths or self.ranges)
            kinds.append(select() if any_kind else select(anonymous=True, private=True))
        chosen = functools.reduce(operator.or_, kinds)
        if self.paths:
            named = [space.select(path=path) for path in self.paths]
            chosen &= functools.reduce(operator.or_, named)
        if self.ranges:
            chosen &= Ranges(self.ranges)
        return chosen


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

    def begin(self, target: TargetEntry) -> None:
        """A target's turn begins."""

    def progress(self, done: int, total: int) -> None:
        """So many bytes of the present target are done, of so many."""

    def end(self) -> None:
        """The last target's turn has ended."""


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
) -> list[Outcome]:
    """Advise the targets in their order, by advise_each(): its rules are the rules."""
    listed = list(targets)
    turns: list[_Turn] = []
    outcomes: dict[int, Outcome] = {}

    def handles() -> Iterator[Process]:
        # One is open at a time: there may be more targets than descriptors.
        for target in listed:
            if target.error is not None:
                continue
            try:
                process = target.open()
            except OSError as error:
                outcomes[target.pid] = Outcome(target, None, error)
                continue
            with process:
                observer.begin(target)
                turns.append(_Turn(target, process))
                yield process
                turns[-1].note_hold()

    def select(process: Process) -> Ranges | None:
        ranges = order.selection.of(process, order.advice)
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
        return Outcome(self.target, result, None, self.matched, self.held)
