"""Groups of processes: found by cgroup or tree, and advised within one budget."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator

from pmadvise import _reasons
from pmadvise._advise.keywords import Cancel, EachOptions, Unpack
from pmadvise._advise.limits import (
    CallerError,
    Clock,
    Limits,
    StopAdvising,
    attach,
    of_caller,
)
from pmadvise._arguments import aligned, c_int, check_callables, n_bytes
from pmadvise._handle.identity import Identity
from pmadvise._members import members_of_cgroup, members_of_host, members_of_tree
from pmadvise._origin import own
from pmadvise._proc.cgroups import open_cgroup
from pmadvise._record import replaced
from pmadvise.advice import REMOTE, Advice, known, not_remote
from pmadvise.memory import swap
from pmadvise.process import Process
from pmadvise.ranges import Ranges, RangesLike
from pmadvise.report import Ended, Report


def processes(
    *, cgroup: str | os.PathLike[str] | None = None, tree: int | None = None
) -> Iterator[Process]:
    """Open processes: of a cgroup, of a process and its descendants, or of the host.

    Each is opened once, and checked by its own handle to belong there. Those that exit
    meanwhile are left out, and those without memory of their own (zombies, kernel
    threads). The handles are the caller's to close.

    Some may be out of reach: hidden (hidepid), of a pid namespace that this one does
    not see, or of cgroups that may not be opened or are too many to list in 10 s. These
    are left out, and at the end a RuntimeWarning has the reason.

    >>> import os, pmadvise
    >>> for process in pmadvise.processes(tree=os.getpid()):
    ...     with process:
    ...         if process.pid == os.getpid():
    ...             print(process.status().state)
    R

    Args:
        cgroup: The directory of a cgroup, or its path as /proc/PID/cgroup has it; those
            below it count too.
        tree: A process ID.

    Raises:
        TypeError, ValueError: An argument is wrong, or both are given.
        FileNotFoundError: There is no such cgroup.
        ProcessLookupError: There is no process `tree`.
        PermissionError: /proc is not mounted, or shows another pid namespace.
        OSError: The cgroup is threaded, or no file descriptor is free.
    """
    if cgroup is not None and tree is not None:
        raise ValueError(
            f"cgroup {os.fspath(cgroup)!r} and tree {tree!r}: give only one of them"
        )
    root = None if tree is None else c_int("tree", tree)
    if (no := _reasons.no_proc()) is not None:
        raise no.error("processes()")
    left_out: set[str] = set()
    if cgroup is not None:
        top = open_cgroup(os.fsencode(cgroup))
        found = members_of_cgroup(top, left_out)
        return _handles(found, f"cgroup {os.fspath(cgroup)!r}", left_out)
    if root is not None:
        family = members_of_tree(Identity.open(root), left_out)
        return _handles(family, f"tree {root}", left_out)
    return _handles(members_of_host(left_out), "processes()", left_out)


def _handles(
    found: Iterable[Identity], where: str, left_out: set[str]
) -> Iterator[Process]:
    """Yield handles; at the end warn of those that were left out, with the reasons."""
    for identity in found:
        yield Process._of_identity(identity)
    for reason in sorted(left_out):
        text = f"{where}: some processes are left out: {reason}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


_HOLD_TIMEOUT = 1.0
"""Seconds in which a process is to be stopped, where no timeout says less."""


class _Guard:
    """A Cancel for the caller's reasons, and for free swap.

    Args:
        cancel: The caller's.
        stop: The caller's.
        floor: Bytes of swap to leave free; 0: any number.
        is_rehearsal: Whether the swap is not used in truth.
    """

    def __init__(
        self,
        cancel: Cancel | None,
        stop: Callable[[], object] | None,
        floor: int,
        is_rehearsal: bool,
    ) -> None:
        self._cancel, self._stop, self._floor = cancel, stop, floor
        self._is_rehearsal = is_rehearsal
        self._rehearsed = 0
        self.ended: Ended | None = None

    def is_set(self) -> bool:
        """Return whether the work is to end."""
        if (self._cancel is not None and of_caller(self._cancel.is_set)) or (
            self._stop is not None and of_caller(self._stop)
        ):
            self.ended = "cancelled"
        elif self.free_swap() == 0:
            self.ended = "budget"
        return self.ended is not None

    def free_swap(self) -> int | None:
        """Return the bytes of swap that may still be used; None: any number."""
        if not self._floor:
            return None
        return max(swap().free - self._floor - self._rehearsed, 0)

    def use(self, counted: int) -> None:
        """Take bytes from the free swap that a rehearsal only counts."""
        if self._is_rehearsal:
            self._rehearsed += counted


def advise_each(
    processes: Iterable[Process],
    advice: Advice | int,
    *,
    select: Callable[[Process], RangesLike | None] | None = None,
    hold: str | None = None,
    budget: int | None = None,
    swap_floor: int = 0,
    stop: Callable[[], object] | None = None,
    **options: Unpack[EachOptions],
) -> list[tuple[Process, Report | OSError]]:
    """Advise memory of many processes, in the order given.

    If a process has exited or refuses, its result is the exception; the others are
    advised all the same. When the work ends early, the processes that were not reached
    have a Report of 0 bytes whose `ended` has the reason.

    >>> import os, pmadvise
    >>> with pmadvise.Process(os.getpid()) as process:
    ...     [(_, report)] = pmadvise.advise_each(
    ...         [process], pmadvise.Advice.COLD, budget=1 << 20
    ...     )
    >>> report.advised <= 1 << 20
    True

    Args:
        processes: Handles; they stay open. Each is taken when its turn comes.
        advice: COLD, PAGEOUT, WILLNEED or COLLAPSE.
        select: Returns the ranges of a process to advise, such as those of
            Process.selection(), or None for the default selection; called when its
            turn comes, while it is held.
        hold: Hold each process meanwhile, by this method of Process.hold(); not with
            dry_run.
        budget: Bytes for all of them together, counted as Process.advise() counts them.
        swap_floor: Bytes of swap that PAGEOUT leaves free: then `ended` is "budget".
            Where the swap space is hidden, the OSError of swap().
        stop: Called before each system call; a true value ends the work ("cancelled").
        **options: Those of Process.advise(); `timeout` is for all together, the time
            to stop a process included.

    Returns:
        Each process with its Report, or its error.

    Raises:
        TypeError, ValueError: An argument is wrong; nothing was advised.
        BaseException: Whatever a callback or a signal handler raises; the results so
            far are its `.reports`.
    """
    limits = Limits(**options, budget=budget)
    number = c_int("advice", advice)
    if number not in REMOTE:
        raise not_remote(number)
    limits.check_advice(number)
    floor = n_bytes("swap_floor", swap_floor)
    check_callables(stop=stop, select=select)
    if hold is not None:
        from pmadvise.hold import check_method  # noqa: PLC0415 - not all need it

        check_method("hold", hold)
    if number != Advice.PAGEOUT:
        floor = 0
    if floor:
        swap()  # raises, before anything is advised, where it is hidden
    _check_listed(processes)
    guard = _Guard(limits.cancel, stop, floor, limits.dry_run)
    work = _Work(Advice(number), limits, guard, select, hold)
    try:
        for index, process in enumerate(processes):
            _check_process(index, process)
            work.advise(process)
        return work.results
    except CallerError as cover:
        error = cover.error
    except BaseException as other:
        error = other
    attach(error, "reports", work.results)
    try:
        raise error
    finally:
        del error


def _check_listed(processes: Iterable[Process]) -> None:
    """Check what is there already; an iterator's are checked in their turn."""
    if isinstance(processes, (list, tuple)):
        for index, process in enumerate(processes):
            _check_process(index, process)


def _check_process(index: int, process: Process) -> None:
    if not isinstance(process, Process):
        raise TypeError(f"processes[{index}] {process!r} is not a Process")


class _Work:
    """The results of advise_each() so far, and the rest of the limits."""

    def __init__(
        self,
        advice: Advice,
        limits: Limits,
        guard: _Guard,
        select: Callable[[Process], RangesLike | None] | None,
        hold: str | None,
    ) -> None:
        self._advice, self._limits, self._guard = advice, limits, guard
        self._select = select
        self._hold = None if limits.dry_run else hold
        self._clock = Clock(replaced(limits, cancel=guard))
        self._left = limits.budget
        self._ended: Ended | None = None
        self.results: list[tuple[Process, Report | OSError]] = []

    def advise(self, process: Process) -> None:
        """Advise one process, unless the work has ended."""
        self._ended = self._ended or self._why_ended()
        if self._ended is not None:
            report = Report(known(self._advice), 0, 0, (), 0, 0.0, 0.0, self._ended)
            self.results.append((process, report))
            return
        try:
            outcome: Report | OSError = self._advise(process)
        except own(OSError) as error:
            # The frames of a traceback would keep open files as long as the result.
            outcome = error.with_traceback(None)
        self.results.append((process, outcome))

    def _why_ended(self) -> Ended | None:
        """Return why no other process is to be advised."""
        try:
            self._clock.check()
        except StopAdvising as early:
            return self._guard.ended or early.ended
        return "budget" if self._left == 0 else None

    def _advise(self, process: Process) -> Report:
        if self._hold is None:
            return self._advise_selected(process)
        left = self._time_left()
        with process.hold(self._hold, _HOLD_TIMEOUT if left is None else left):
            return self._advise_selected(process)

    def _advise_selected(self, process: Process) -> Report:
        ranges: Ranges | None = None
        if self._select is not None:
            selected = self._select(process)
            ranges = None if selected is None else aligned(selected)
        budgets = [n for n in (self._left, self._guard.free_swap()) if n is not None]
        limits = replaced(
            self._limits,
            budget=min(budgets, default=None),
            timeout=self._time_left(),
            cancel=self._guard,
        )
        run = process._run(self._advice, limits)
        try:
            report = run.run_covered(ranges)
        finally:
            self._guard.use(run.counted)
            if self._left is not None:
                self._left = max(self._left - run.counted, 0)
        if report.ended == "cancelled" and self._guard.ended is not None:
            return replaced(report, ended=self._guard.ended)
        return report

    def _time_left(self) -> float | None:
        timeout = self._limits.timeout
        return None if timeout is None else max(timeout - self._clock.elapsed(), 0.0)
