"""What this host, this process and a target allow: asked of the kernel, with reasons.

The module is not named after its function, which would hide it: importing a module
``pmadvise.support`` would take the place of the function ``pmadvise.support``.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, fields
from typing import Any

from pmadvise import _host, _sys
from pmadvise._answers import (
    YES,
    Answer,
    missing,
    no_cap_sys_nice,
    refused,
    too_old,
    wrong,
)
from pmadvise._host import Filter
from pmadvise._support_target import Target, TargetSupport
from pmadvise.advice import REMOTE, Advice, advice_name
from pmadvise.calls import PIDFD_THREAD, PidfdLike

_NO_ADVICE = -1  # which the kernel knows as none


@dataclass(frozen=True, slots=True)
class Support:
    """What this host and this process allow, as the kernel answered when asked."""

    kernel: str
    """Its release, for messages: nothing here is concluded from it."""
    machine: str
    page_size: int
    """Bytes."""
    huge_page_size: int | None
    """Bytes of a page that COLLAPSE makes; None without transparent huge pages."""
    pidfd_open: Answer
    process_madvise: Answer
    advice: dict[Advice, Answer]
    """Whether the kernel knows them for another process."""
    others: Answer
    """Whether other processes may be advised that ptrace read access is given to."""
    own_process: Answer
    """Whether the own process takes every advice, without a capability."""
    pidfd_thread: Answer
    """pidfd_open() with PIDFD_THREAD."""
    procmap_query: Answer
    """The ioctl PROCMAP_QUERY: without it maps is read again and again, slower."""
    pagemap_scan: Answer
    """The ioctl PAGEMAP_SCAN: without it pagemap is read word by word, slower."""
    cap_sys_nice: bool
    """In the effective set; it counts in the initial user namespace alone."""
    cap_sys_ptrace: bool
    """In the effective set."""
    initial_user_namespace: bool | None
    """None where that can't be told."""
    initial_pid_namespace: bool | None
    container: str
    """What manages it: "docker", "podman", "kubernetes", ...; "" where none is seen."""
    seccomp: str | None
    """"disabled", "strict" or "filter"; None where that can't be told."""
    swap_total: int
    """Bytes."""
    swap_free: int
    """Bytes."""
    swap_allowed: int | None
    """Bytes that the caller's cgroup may still swap; None without a limit."""
    ptrace_scope: int | None
    """Yama's, which limits a hold by ptrace and no advice; None without Yama."""
    freezers: tuple[str, ...]
    """Cgroup hierarchies that can freeze and be written to: "cgroup2", "cgroup1"."""
    target: TargetSupport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as json.dumps() takes it; advices by their names."""
        found: dict[str, Any] = _plain(self)
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, (Answer, Support, TargetSupport)):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {advice_name(key): _plain(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def support(target: PidfdLike | None = None) -> Support:
    """Tell what this host, this process and `target` allow; nothing is changed.

    The kernel is asked with calls that do nothing: its version proves nothing, as
    distributions backport. Where a seccomp filter kills who makes a call, it kills
    this caller too: such a filter can't be asked.

    Args:
        target: A process ID, or a Process, or anything whose fileno() is a pidfd.

    Raises:
        TypeError: `target` is none of these.
        ValueError: Its file descriptor is not a pidfd of a process, or the Process is
            closed.
        OSError: It is the ID of a thread and not of a process (EINVAL, ENOENT), or no
            file descriptor is free.
    """
    if isinstance(target, bool):
        raise TypeError(f"target {target!r} is neither a process ID nor a process")
    filter_ = _host.Filter.of_this_thread()
    can_open, pidfd = _pidfd_open(filter_)
    try:
        call = _process_madvise(filter_)
        chosen = None if target is None else Target(target)
        try:
            known, others = _advices(call, pidfd, chosen.pidfd if chosen else -1)
            seen = None if chosen is None else chosen.support(call, known)
        finally:
            if chosen is not None:
                chosen.close()
        own = _own_process(call, pidfd)
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    effective = _host.capabilities()
    total, free = _host.swap()
    return Support(
        kernel=os.uname().release,
        machine=os.uname().machine,
        page_size=_sys.PAGE_SIZE,
        huge_page_size=_host.huge_page_size(),
        pidfd_open=can_open,
        process_madvise=call,
        advice=known,
        others=others,
        own_process=own,
        pidfd_thread=_pidfd_thread(can_open),
        procmap_query=_procmap_query(),
        pagemap_scan=_pagemap_scan(),
        cap_sys_nice="CAP_SYS_NICE" in effective,
        cap_sys_ptrace="CAP_SYS_PTRACE" in effective,
        initial_user_namespace=_host.initial_namespace("user"),
        initial_pid_namespace=_host.initial_namespace("pid"),
        container=_host.container(),
        seccomp=filter_.mode,
        swap_total=total,
        swap_free=free,
        swap_allowed=_host.swap_allowed(),
        ptrace_scope=_host.ptrace_scope(),
        freezers=_host.freezers(),
        target=seen,
    )


def _process_madvise(filter_: Filter) -> Answer:
    """Tell whether the system call is there: -1 is no pidfd, and EBADF says so."""
    result = _sys.probe(-1, Advice.COLD)
    if result == -errno.EBADF:
        return YES
    if result == -errno.ENOSYS:
        return missing("process_madvise", filter_)
    if filter_.mode != "disabled":
        return refused("process_madvise", -result)
    return wrong("process_madvise", -result)


def _pidfd_open(filter_: Filter) -> tuple[Answer, int]:
    """Open a pidfd of this process; return it too, -1 if there is none."""
    result = _sys.pidfd_open(os.getpid(), 0)
    if result >= 0:
        return YES, result
    if result == -errno.ENOSYS:
        return missing("pidfd_open", filter_), -1
    if result in (-errno.EMFILE, -errno.ENFILE, -errno.ENOMEM):
        raise OSError(-result, f"pidfd_open: {os.strerror(-result)}")
    if filter_.mode == "disabled":
        return wrong("pidfd_open", -result), -1
    return refused("pidfd_open", -result), -1


def _pidfd_thread(can_open: Answer) -> Answer:
    if not can_open:
        return can_open
    result = _sys.pidfd_open(threading.get_native_id(), PIDFD_THREAD)
    if result >= 0:
        os.close(result)
        return YES
    return too_old("PIDFD_THREAD", -result, "6.9")


def _procmap_query() -> Answer:
    try:
        fd = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Answer(False, "proc", error.errno, str(error))
    try:
        result = _sys.procmap_query(fd)
    finally:
        os.close(fd)
    return too_old("PROCMAP_QUERY", -result, "6.11") if result < 0 else YES


def _pagemap_scan() -> Answer:
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Answer(False, "proc", error.errno, str(error))
    try:
        _sys.pagemap_scan(fd, [(0, _sys.PAGE_SIZE)], 0, _sys.PAGE_IS_PRESENT)
    except OSError as error:
        return too_old("PAGEMAP_SCAN", error.errno or 0, "6.7")
    finally:
        os.close(fd)
    return YES


def _advices(
    call: Answer, own: int, target: int
) -> tuple[dict[Advice, Answer], Answer]:
    """Tell which advices another process takes, and whether the caller may give any.

    A process is asked about whose check of the advice is reached: that comes behind
    ptrace read access, on older kernels before it. Where there is none, the own process
    is; newer kernels do not look at the advice then, and all of those know all four:
    Linux 6.13 split the own process's advices from those of others.
    """
    advices = sorted(REMOTE)
    if not call:
        return dict.fromkeys(advices, call), call
    opened = [
        fd for pid in (os.getppid(), 1) if pid and (fd := _sys.pidfd_open(pid, 0)) >= 0
    ]
    try:
        for pidfd in (target, *opened, own):
            if pidfd >= 0 and _sys.probe(pidfd, _NO_ADVICE) == -errno.EINVAL:
                known = {one: _advice(pidfd, one) for one in advices}
                return known, _others(pidfd if pidfd != own else -1)
        return {one: _advice(-1, one) for one in advices}, _others(-1)
    finally:
        for fd in opened:
            os.close(fd)


def _advice(pidfd: int, advice: Advice) -> Answer:
    if pidfd >= 0 and _sys.probe(pidfd, advice) == -errno.EINVAL:
        return Answer(
            False,
            "kernel",
            errno.EINVAL,
            f"the kernel does not know {advice_name(advice)} for another process",
            f"Linux {_SINCE[advice]} or newer is needed",
        )
    if advice == Advice.COLLAPSE and _host.huge_page_size() is None:
        return Answer(
            False, "kernel", errno.EINVAL, "there are no transparent huge pages here"
        )
    return YES


_SINCE = {
    Advice.COLD: "5.10",
    Advice.PAGEOUT: "5.10",
    Advice.WILLNEED: "5.15",
    Advice.COLLAPSE: "6.1",
}


def _others(pidfd: int) -> Answer:
    """Tell whether CAP_SYS_NICE is there, by another process or by the flags."""
    result = _sys.probe(pidfd, Advice.COLD) if pidfd >= 0 else -errno.EACCES
    if result == 0:
        return YES
    if (
        result != -errno.EPERM  # of no process the check of the capability is reached
        and "CAP_SYS_NICE" in _host.capabilities()
        and _host.initial_namespace("user") is not False
    ):
        return YES
    return no_cap_sys_nice()


def _own_process(call: Answer, own: int) -> Answer:
    if not call:
        return call
    result = _sys.probe(own, Advice.DONTNEED) if own >= 0 else -errno.ENOSYS
    if result == 0:
        return YES
    return Answer(
        False,
        "kernel",
        -result,
        "the own process takes no more advices than others",
        "Linux 6.13 or newer is needed",
    )
