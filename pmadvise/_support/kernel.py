"""What the kernel answers about its calls, when asked with calls that do nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from pmadvise import _reasons
from pmadvise._native.base import PAGE_SIZE
from pmadvise._native.descriptor import PIDFD_THREAD, Descriptor
from pmadvise._native.pagemap import PAGE_IS_PRESENT, pagemap_scan
from pmadvise._native.process_madvise import probe
from pmadvise._native.procmap_query import procmap_query
from pmadvise._native.task import task_own
from pmadvise._proc.rights import capabilities, initial_namespace
from pmadvise._reasons import YES, Answer
from pmadvise._support.host import huge_page_size
from pmadvise.advice import REMOTE, Advice

_NO_ADVICE = -1  # not a valid advice
_DESCRIPTORS = 6
"""More than support() opens at a time."""


def own_pidfd() -> tuple[Answer, Descriptor]:
    """Open a pidfd of this process; return it too, closed if there is none.

    Raises:
        OSError: Too few file descriptors are free: then answers would be wrong.
    """
    pidfd = Descriptor()
    result = pidfd.open_process(os.getpid())
    if result >= 0:
        _require_descriptors(pidfd.fd)
        return YES, pidfd
    answer = _reasons.of_pidfd_open(-result)
    if answer.refused_by == "descriptors":
        raise answer.error("pidfd_open")
    return answer, pidfd


def _require_descriptors(pidfd: int) -> None:
    try:
        opened = [Descriptor.copy_of(pidfd) for _ in range(_DESCRIPTORS)]
    except OSError as error:
        raise _reasons.no_descriptor(error.errno or 0).error("support()") from None
    for one in opened:
        one.close()


def pidfd_thread(can_open: Answer) -> Answer:
    """Return whether pidfd_open() takes PIDFD_THREAD."""
    if not can_open:
        return can_open
    pidfd = Descriptor()
    try:
        result = pidfd.open_process(task_own(), PIDFD_THREAD)
    except OSError as error:
        result = -(error.errno or errno.EIO)
    pidfd.close()
    if result < 0:
        return _reasons.feature_missing("PIDFD_THREAD", -result, "6.9")
    return YES


def has_procmap_query() -> Answer:
    """Return whether maps takes the ioctl PROCMAP_QUERY."""
    return _asked("maps", "PROCMAP_QUERY", "6.11", procmap_query)


def has_pagemap_scan() -> Answer:
    """Return whether pagemap takes the ioctl PAGEMAP_SCAN."""

    def scan(fd: int) -> int:
        try:
            pagemap_scan(fd, [(0, PAGE_SIZE)], PAGE_IS_PRESENT)
        except OSError as error:
            return -(error.errno or errno.EIO)
        return 0

    return _asked("pagemap", "PAGEMAP_SCAN", "6.7", scan)


def _asked(name: str, ioctl: str, since: str, ask: Callable[[int], int]) -> Answer:
    """Ask an ioctl of a file of /proc/self."""
    path = f"/proc/self/{name}"
    try:
        file = Descriptor.open(path)
    except OSError as error:
        return _reasons.refusal("proc", error.errno, f"{path} can't be opened: {error}")
    try:
        result = ask(file.fd)
    finally:
        file.close()
    return YES if result >= 0 else _reasons.feature_missing(ioctl, -result, since)


def advices(call: Answer, own: int, target: int) -> tuple[dict[Advice, Answer], Answer]:
    """Return which advices another process takes, and whether the caller may give any.

    Only a process for which the kernel gets as far as checking the advice can be asked:
    it checks ptrace read access before, on older kernels after. Without such a process
    the own one is asked; newer kernels do not look at the advice then, and all of those
    know all four: Linux 6.13 split the own process's advices from those of others.

    Args:
        call: Whether process_madvise(2) is there.
        own: Pidfd of this process, or -1.
        target: Pidfd of another, or -1.
    """
    every = sorted(REMOTE)
    if not call:
        return dict.fromkeys(every, call), call
    others = [_open_process(pid) for pid in (os.getppid(), 1) if pid]
    try:
        for pidfd in (target, *(one.fd for one in others), own):
            if pidfd >= 0 and probe(pidfd, _NO_ADVICE) == -errno.EINVAL:
                known = {one: _advice(pidfd, one) for one in every}
                return known, _other_processes(pidfd if pidfd != own else -1)
        return {one: _advice(-1, one) for one in every}, _other_processes(-1)
    finally:
        for one in others:
            one.close()


def _open_process(pid: int) -> Descriptor:
    """Return a pidfd, closed if there is none."""
    pidfd = Descriptor()
    pidfd.open_process(pid)
    return pidfd


def _advice(pidfd: int, advice: Advice) -> Answer:
    if pidfd >= 0 and probe(pidfd, advice) == -errno.EINVAL:
        return _reasons.advice_unknown(advice)
    if advice == Advice.COLLAPSE and huge_page_size() is None:
        return _reasons.no_huge_pages()
    return YES


def _other_processes(pidfd: int) -> Answer:
    """Return whether CAP_SYS_NICE is there, by another process or by the flags."""
    result = probe(pidfd, Advice.COLD) if pidfd >= 0 else -errno.EACCES
    if result == 0:
        return YES
    if (
        result != -errno.EPERM  # no process shows whether the capability is there
        and "CAP_SYS_NICE" in capabilities()
        and initial_namespace("user") is not False
    ):
        return YES
    return _reasons.no_cap_sys_nice()


def own_process(call: Answer, own: int) -> Answer:
    """Return whether the own process takes every advice, without a capability."""
    if not call:
        return call
    result = probe(own, Advice.DONTNEED) if own >= 0 else -errno.ENOSYS
    return YES if result == 0 else _reasons.of_own_process(-result)
