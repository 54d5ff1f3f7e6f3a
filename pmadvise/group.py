"""Groups of processes: found by cgroup or tree, and advised within one budget."""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pmadvise._advise.keywords import Cancel, EachOptions, Unpack
from pmadvise._advise.limits import Clock, Limits, StopAdvising
from pmadvise._arguments import aligned, c_int
from pmadvise._handle.identity import Identity
from pmadvise._native.descriptor import Descriptor
from pmadvise._proc.cgroups import Cgroup, find_cgroup, processes_in
from pmadvise._proc.files import Stat, read
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
    threads), and those that /proc hides (hidepid). The handles are the caller's to
    close.

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
        OSError: No file descriptor is free.
    """
    if cgroup is not None and tree is not None:
        raise ValueError(
            f"cgroup {os.fspath(cgroup)!r} and tree {tree!r}: give only one of them"
        )
    if cgroup is not None:
        return _of_cgroup(find_cgroup(os.fsencode(cgroup)))
    if tree is not None:
        return map(Process._of_identity, _tree(Identity.open(c_int("tree", tree))))
    return map(Process._of_identity, _opened(_listed()))


def _listed() -> Iterator[int]:
    """Yield the process IDs in /proc."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _opened(pids: Iterable[int]) -> Iterator[Identity]:
    """Open processes, but for those that have gone or that have no memory."""
    for pid in pids:
        try:
            identity = Identity.open(pid)
        except ProcessLookupError:
            continue
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # a thread has the ID now
                continue
            raise
        if not identity.is_hidden and identity.why_no_mm() is None:
            yield identity
        else:
            identity.close()


def _of_cgroup(cgroup: Cgroup) -> Iterator[Process]:
    directory = Descriptor.open(cgroup.directory, flags=os.O_DIRECTORY)
    try:
        # 0: of another pid namespace
        pids = [pid for pid in processes_in(directory.fd) if pid]
    finally:
        directory.close()
    for identity in _opened(pids):
        try:
            is_member = cgroup.has(identity.proc)
        except (FileNotFoundError, ProcessLookupError):
            is_member = False
        if is_member:
            yield Process._of_identity(identity)
        else:
            identity.close()


def _tree(root: Identity) -> Iterator[Identity]:
    """Find a family now; open one when it is asked for, as descriptors may be few."""
    children: dict[int, list[int]] = {}
    for pid in _listed():
        if (stat := _stat(pid)) is not None:
            children.setdefault(stat.parent, []).append(pid)
    try:
        starts = {root.number: root.stat().start_ticks}
    finally:
        root.close()
    family = [*starts]
    for parent in family:
        for child in _opened(children.get(parent, ())):
            try:
                stat, still = child.stat(), _stat(parent)
            except ProcessLookupError:
                continue
            finally:
                child.close()
            # The ID and the start time name a process for ever: it is the same parent.
            is_same = still is not None and still.start_ticks == starts[parent]
            if is_same and stat.parent == parent:
                starts[child.number] = stat.start_ticks
                family.append(child.number)
    return _again(starts)


def _again(starts: dict[int, int]) -> Iterator[Identity]:
    """Open the processes of these IDs and start times."""
    for identity in _opened(starts):
        try:
            is_same = identity.stat().start_ticks == starts[identity.number]
        except ProcessLookupError:
            is_same = False
        if is_same:
            yield identity
        else:
            identity.close()


def _stat(pid: int) -> Stat | None:
    """Return the stat of a process, None if it exits meanwhile or is hidden."""
    try:
        return Stat(read(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


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
        if (self._cancel is not None and self._cancel.is_set()) or (
            self._stop is not None and self._stop()
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
    floor = operator.index(swap_floor)
    if floor < 0:
        raise ValueError(f"swap_floor {floor} is negative")
    for name, callback in (("stop", stop), ("select", select)):
        if callback is not None and not callable(callback):
            raise TypeError(f"{name} {callback!r} is not callable")
    if hold is not None:
        from pmadvise.hold import METHODS  # noqa: PLC0415 - not all need it

        if hold not in ("auto", *METHODS):
            raise ValueError(f"hold {hold!r} is none of auto, {', '.join(METHODS)}")
    if number != Advice.PAGEOUT:
        floor = 0
    guard = _Guard(limits.cancel, stop, floor, limits.dry_run)
    work = _Work(Advice(number), limits, guard, select, hold)
    try:
        for process in processes:
            work.advise(process)
    except BaseException as error:
        BaseException.__setattr__(error, "reports", work.results)
        raise
    return work.results


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
        self._clock = Clock(replace(limits, cancel=guard))
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
        except OSError as error:
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
        limits = replace(
            self._limits,
            budget=min(budgets, default=None),
            timeout=self._time_left(),
            cancel=self._guard,
        )
        run = process._run(self._advice, limits)
        try:
            report = run.run(ranges)
        finally:
            self._guard.use(run.counted)
            if self._left is not None:
                self._left = max(self._left - run.counted, 0)
        if report.ended == "cancelled" and self._guard.ended is not None:
            return replace(report, ended=self._guard.ended)
        return report

    def _time_left(self) -> float | None:
        timeout = self._limits.timeout
        return None if timeout is None else max(timeout - self._clock.elapsed(), 0.0)
