"""What this host, this process and a target allow: asked of the kernel, with reasons.

The package is not named after its function, which would hide it: importing a package
``pmadvise.support`` would take the place of the function ``pmadvise.support``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import cast

from pmadvise import _reasons
from pmadvise._arguments import PidfdLike
from pmadvise._native.base import PAGE_SIZE
from pmadvise._proc.rights import Seccomp, capabilities, initial_namespace
from pmadvise._reasons import Answer
from pmadvise._support import host, kernel
from pmadvise._support.target import Target, TargetSupport
from pmadvise.advice import Advice, advice_name

__all__ = ["Support", "TargetSupport", "support"]


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
    other_processes: Answer
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
    cap_dac_read_search: bool
    """In the effective set: to see which pages of another user's process are in memory
    or in swap; advising needs it no more than CAP_SYS_PTRACE does."""
    initial_user_namespace: bool | None
    """None where it is not known."""
    initial_pid_namespace: bool | None
    container: str
    """What manages it: "docker", "podman", "kubernetes", ...; "" where none is seen."""
    seccomp: str | None
    """"disabled", "strict" or "filter"; None where it is not known."""
    nice: int
    """The nice value of this thread."""
    priority: Answer
    """Whether this thread gets a CPU soon enough to keep `max_stall`."""
    swap_total: int
    """Bytes."""
    swap_free: int
    """Bytes."""
    swap_allowed: int | None
    """Bytes that the caller's cgroup may still swap; None without a limit."""
    memory_limit: int | None
    """Bytes that the caller's cgroup may have in memory; None without a limit."""
    ptrace_scope: int | None
    """Yama's, which limits a hold by ptrace and no advice; None without Yama."""
    freezers: tuple[str, ...]
    """Cgroup hierarchies that can freeze and be written to: "cgroup2", "cgroup1"."""
    target: TargetSupport | None = None

    def to_dict(self) -> dict[str, object]:
        """Return all of it as json.dumps() takes it; advices by their names."""
        return cast("dict[str, object]", _plain(self))


def _plain(value: object) -> object:
    if isinstance(value, (Answer, Support, TargetSupport)):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {advice_name(key): _plain(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def support(target: PidfdLike | None = None) -> Support:
    """Return what this host, this process and `target` allow; nothing is changed.

    The kernel is asked with calls that do nothing: its version proves nothing, as
    distributions backport. If a seccomp filter kills callers of process_madvise,
    support() is killed as well; there is no safe way to probe for that.

    Args:
        target: A process ID, or a Process, or anything whose fileno() is a pidfd.

    Raises:
        TypeError: `target` is none of these.
        ValueError: Its file descriptor is not a pidfd of a process, or the Process is
            closed.
        OSError: It is the ID of a thread and not of a process (EINVAL, ENOENT), or too
            few file descriptors are free (EMFILE).
    """
    if isinstance(target, bool):
        raise TypeError(f"target {target!r} is neither a process ID nor a process")
    can_open, pidfd = kernel.own_pidfd()
    try:
        call = _reasons.process_madvise_call()
        chosen = None if target is None else Target(target)
        try:
            other = -1 if chosen is None else chosen.pidfd
            known, other_processes = kernel.advices(call, pidfd.fd, other)
            seen = None if chosen is None else chosen.support(call, known)
        finally:
            if chosen is not None:
                chosen.close()
        own = kernel.own_process(call, pidfd.fd)
    finally:
        pidfd.close()
    effective = capabilities()
    total, free = host.swap()
    limit = host.memory_limit()
    return Support(
        kernel=os.uname().release,
        machine=os.uname().machine,
        page_size=PAGE_SIZE,
        huge_page_size=host.huge_page_size(),
        pidfd_open=can_open,
        process_madvise=call,
        advice=known,
        other_processes=other_processes,
        own_process=own,
        pidfd_thread=kernel.pidfd_thread(can_open),
        procmap_query=kernel.has_procmap_query(),
        pagemap_scan=kernel.has_pagemap_scan(),
        cap_sys_nice="CAP_SYS_NICE" in effective,
        cap_sys_ptrace="CAP_SYS_PTRACE" in effective,
        cap_dac_read_search="CAP_DAC_READ_SEARCH" in effective,
        initial_user_namespace=initial_namespace("user"),
        initial_pid_namespace=initial_namespace("pid"),
        container=host.container(),
        seccomp=Seccomp.of_this_thread().mode,
        nice=host.nice(),
        priority=host.priority(),
        swap_total=total,
        swap_free=free,
        swap_allowed=host.swap_allowed(),
        memory_limit=None if limit is None else limit[0],
        ptrace_scope=host.ptrace_scope(),
        freezers=host.freezers(),
        target=seen,
    )
