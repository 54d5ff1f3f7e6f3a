"""Work of an advice: the order, and its outcomes by pmadvise.advise_each()."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import operator
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from pmadvise.advice import Advice
from pmadvise.command.options import Share
from pmadvise.command.targets import TargetEntry
from pmadvise.command.text import long_size
from pmadvise.group import advise_each
from pmadvise.maps import AddressSpace
from pmadvise.memory import Swap
from pmadvise.process import Process
from pmadvise.ranges import Ranges
from pmadvise.report import Report

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
    total = 0
    for target in targets:
        if target.process is not None:
            with contextlib.suppress(OSError):
                status = target.process.status()
                total += status.swap if advice == Advice.WILLNEED else status.rss
    return math.floor(total * share.percent / 100)


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
    able = [t for t in listed if t.process is not None and t.error is None]
    results: dict[int, Report | OSError] = {}

    def handles() -> Iterator[Process]:
        for target in able:
            observer.begin(target)
            assert target.process is not None
            yield target.process

    def select(process: Process) -> Ranges | None:
        return order.selection.of(process, order.advice)

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
    except KeyboardInterrupt as error:  # the second Ctrl-C
        stop.set()
        done = [*getattr(error, "reports", ())]
        report = getattr(error, "report", None)
        if report is not None and len(done) < len(able):
            results[id(able[len(done)].process)] = report
    finally:
        observer.end()
    results.update((id(process), result) for process, result in done)
    nothing = Report(order.advice, 0, 0, (), 0, 0.0, 0.0, "cancelled")
    outcomes = []
    for target in listed:
        result = results.get(id(target.process))
        if target.process is None or target.error is not None:
            outcomes.append(Outcome(target, None, target.error))
        elif isinstance(result, OSError):
            outcomes.append(Outcome(target, getattr(result, "report", None), result))
        else:
            outcomes.append(Outcome(target, result or nothing))
    return outcomes
