"""Every public call that asks the kernel: of a Process, and of a process ID."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import pytest

import pmadvise
from helpers.targets import PAGE
from pmadvise import Advice, Process
from pmadvise.hold import METHODS

READS: dict[str, Callable[[Process], object]] = {
    "maps": Process.maps,
    "resident": Process.resident,
    "swapped": Process.swapped,
    "memory": Process.memory,
    "check": lambda process: process.check(Advice.COLD),
    "cold": Process.cold,
    "pageout": Process.pageout,
    "willneed": Process.willneed,
    "collapse": Process.collapse,
    "advise": lambda process: process.advise([(PAGE, PAGE)], Advice.COLD),
}
"""Need an address space, and the right to it."""
OTHERS: dict[str, Callable[[Process], object]] = {
    "status": Process.status,
    "fileno": Process.fileno,
    "pidfd": lambda process: process.pidfd,
    "alive": lambda process: process.alive,
    "wait": lambda process: process.wait(0),
    "enter": Process.__enter__,
    "hold": Process.hold,
}
reads = pytest.mark.parametrize("read", READS.values(), ids=READS)

PATIENCE = 0.5
"""Seconds for a hold."""


def _opened(call: Callable[[Process], object]) -> Callable[[int], object]:
    def opened(pid: int) -> object:
        with Process(pid) as process:
            return call(process)

    return opened


def _hold(method: str) -> Callable[[Process], object]:
    def hold(process: Process) -> object:
        with process.hold(method, PATIENCE):
            return process.status().threads

    return hold


def _space(process: Process) -> object:
    space = process.maps()
    return space.stale, space.changed().total, space.select(path="*").total > 0


def _advise_each(process: Process) -> object:
    [(_, outcome)] = pmadvise.advise_each([process], Advice.COLD, budget=1 << 20)
    if isinstance(outcome, OSError):
        raise outcome
    return outcome.ended


def _raw(pid: int) -> object:
    pidfd = pmadvise.pidfd_open(pid)
    try:
        return pmadvise.process_madvise(pidfd, [], Advice.COLD)
    finally:
        os.close(pidfd)


def _from_pidfd(pid: int) -> object:
    pidfd = pmadvise.pidfd_open(pid)
    try:
        with Process.from_pidfd(pidfd) as process:
            return process.pid == pid
    finally:
        os.close(pidfd)


def _processes(pid: int) -> object:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(one).pid for one in pmadvise.processes(tree=pid)]
    return found == [pid]


def _pressure(_: int) -> object:
    with pmadvise.Pressure() as pressure:
        return pressure.wait(0)


CALLS: dict[str, Callable[[int], object]] = {
    "process_madvise": _raw,
    "from_pidfd": _from_pidfd,
    "alive": _opened(lambda process: (process.alive, process.wait(0))),
    "maps": _opened(_space),
    "resident": _opened(lambda process: process.resident().total > 0),
    "swapped": _opened(lambda process: process.swapped().total >= 0),
    "status": _opened(lambda process: process.status().threads),
    "memory": _opened(lambda process: process.memory().rss > 0),
    "working_set": _opened(lambda process: process.working_set(0).resident > 0),
    "check": _opened(lambda process: process.check(Advice.COLD)),
    "cold": _opened(lambda process: process.cold(measure=True).ended),
    "pageout": _opened(lambda process: process.pageout(budget=1 << 20).ended),
    "willneed": _opened(lambda process: process.willneed().ended),
    "collapse": _opened(lambda process: process.collapse(budget=0).ended),
    "advise_each": _opened(_advise_each),
    "processes": _processes,
    "support": lambda pid: pmadvise.support(pid).to_dict() != {},
    "swap": lambda _: pmadvise.swap().total >= 0,
    "pressure": _pressure,
    **{f"hold_{method}": _opened(_hold(method)) for method in (*METHODS, "auto")},
}
"""The result of each is the same at each call: what a fault must not change."""


def outcome_of(call: Callable[[], object]) -> object:
    """Return the result of a call, or its error: one of the kinds that it may have.

    A text stands for an error that a caller can't act on.
    """
    try:
        return call()
    # RuntimeWarning: what a refusal hides is left out, and told.
    except (OSError, RuntimeError, RuntimeWarning, MemoryError) as error:
        clear = isinstance(error, MemoryError) or len(str(error)) > 12
        return error if clear else f"no clear message: {error!r}"
    except Exception as error:
        return f"not an error of the kernel: {error!r}"
