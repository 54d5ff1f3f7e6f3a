"""Probes of the kernel: calls without effect that show the features it has."""

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
from pmadvise._origin import own
from pmadvise._proc.rights import capabilities, initial_namespace
from pmadvise._reasons import YES, Answer
from pmadvise._support.host import huge_page_size
from pmadvise.advice import REMOTE, Advice

_NO_ADVICE = -1  # not a valid advice
_DESCRIPTORS = 6
"""More than support() has open at a time."""


def own_pidfd() -> tuple[Answer, Descriptor]:
    """Open a pidfd of this process; return the answer, and the pidfd or a closed one.

    Raises:
        OSError: Too few file descriptors are free, which would make answers wrong.
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
        copies = [Descriptor.copy_of(pidfd) for _ in range(_DESCRIPTORS)]
    except own(OSError) as error:
        raise _reasons.no_descriptor(error.errno or 0).error("support()") from None
    for copy in copies:
        copy.close()


def pidfd_thread(can_open: Answer) -> Answer:
    """Return whether pidfd_open() accepts PIDFD_THREAD."""
    if not can_open:
        return can_open
    pidfd = Descriptor()
    try:
        result = pidfd.open_process(task_own(), PIDFD_THREAD)
    except own(OSError) as error:
        result = -(error.errno or errno.EIO)
    pidfd.close()
    if result < 0:
        return _reasons.feature_missing("PIDFD_THREAD", -result, "6.9")
    return YES


def has_procmap_query() -> Answer:
    """Return whether maps accepts the ioctl PROCMAP_QUERY."""
    return _probe_ioctl("maps", "PROCMAP_QUERY", "6.11", procmap_query)


def has_pagemap_scan() -> Answer:
    """Return whether pagemap accepts the ioctl PAGEMAP_SCAN."""

    def scan(fd: int) -> int:
        try:
            pagemap_scan(fd, [(0, PAGE_SIZE)], PAGE_IS_PRESENT)
        except own(OSError) as error:
            return -(error.errno or errno.EIO)
        return 0

    return _probe_ioctl("pagemap", "PAGEMAP_SCAN", "6.7", scan)


def _probe_ioctl(
    name: str, ioctl: str, since: str, call: Callable[[int], int]
) -> Answer:
    """Return whether a file of /proc/self accepts an ioctl."""
    path = f"/proc/self/{name}"
    try:
        file = Descriptor.open(path)
    except own(OSError) as error:
        return _reasons.refusal("proc", error.errno, f"{path} can't be opened: {error}")
    try:
        result = call(file.fd)
    finally:
        file.close()
    return YES if result >= 0 else _reasons.feature_missing(ioctl, -result, since)


def advices(call: Answer, own: int, target: int) -> tuple[dict[Advice, Answer], Answer]:
    """Return the advices known for another process, and the permission to give any.

    The probe needs a process for which the kernel gets as far as checking the advice:
    it checks ptrace read access first, on older kernels afterwards. Without such a
    process the probe is of the caller itself; newer kernels then do not check the
    advice, and all of those know all four: since Linux 6.13 the advices for the caller
    itself differ from those for others.

    Args:
        call: Whether process_madvise(2) exists.
        own: Pidfd of this process, or -1.
        target: Pidfd of another process, or -1.
    """
    advices = sorted(REMOTE)
    if not call:
        return dict.fromkeys(advices, call), call
    others = [_open_process(pid) for pid in (os.getppid(), 1) if pid]
    try:
        for pidfd in (target, *(other.fd for other in others), own):
            if pidfd >= 0 and probe(pidfd, _NO_ADVICE) == -errno.EINVAL:
                known = {advice: _advice(pidfd, advice) for advice in advices}
                return known, _other_processes(pidfd if pidfd != own else -1)
        return {advice: _advice(-1, advice) for advice in advices}, _other_processes(-1)
    finally:
        for other in others:
            other.close()


def _open_process(pid: int) -> Descriptor:
    """Return a pidfd; a closed one if the process can't be opened."""
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
    """Return whether the caller has CAP_SYS_NICE, by another process or by its sets."""
    result = probe(pidfd, Advice.COLD) if pidfd >= 0 else -errno.EACCES
    if result == 0:
        return YES
    if (
        result != -errno.EPERM  # no process shows whether the capability counts
        and "CAP_SYS_NICE" in capabilities()
        and initial_namespace("user") is not False
    ):
        return YES
    return _reasons.no_cap_sys_nice()


def own_process(call: Answer, own: int) -> Answer:
    """Return whether every advice is accepted for the caller itself."""
    if not call:
        return call
    result = probe(own, Advice.DONTNEED) if own >= 0 else -errno.ENOSYS
    return YES if result == 0 else _reasons.of_own_process(-result)
