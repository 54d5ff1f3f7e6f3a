"""Support: the facts of a host, of the caller and of a target, with reasons.

The package is not named after its function: the import of a package
``pmadvise.support`` would replace the function ``pmadvise.support``.
"""

from __future__ import annotations

import os
from typing import cast

from pmadvise import _reasons
from pmadvise._arguments import PidfdLike
from pmadvise._native.base import PAGE_SIZE
from pmadvise._proc.cgroups import own_memberships
from pmadvise._proc.rights import Seccomp, capabilities, initial_namespace
from pmadvise._reasons import YES, Answer
from pmadvise._record import record
from pmadvise._support import host, kernel
from pmadvise._support.target import TargetAnswers, TargetSupport
from pmadvise.advice import Advice, advice_name
from pmadvise.idle import sources
from pmadvise.memory import swap_or_answer

__all__ = ["Support", "TargetSupport", "support"]


@record
class Support:
    """The calls and limits of this host and of this process, as the kernel reported."""

    kernel: str
    """Its release, for messages: no other field depends on it."""
    machine: str
    page_size: int
    """Bytes."""
    huge_page_size: int | None
    """Bytes of a huge page of COLLAPSE; None without transparent huge pages."""
    pidfd_open: Answer
    process_madvise: Answer
    advice: dict[Advice, Answer]
    """Whether the kernel knows each advice for another process."""
    other_processes: Answer
    """Whether a process to which the caller has ptrace read access may be advised."""
    own_process: Answer
    """Whether every advice is accepted for the caller itself, without a capability."""
    pidfd_thread: Answer
    """pidfd_open() with PIDFD_THREAD."""
    procmap_query: Answer
    """The ioctl PROCMAP_QUERY; without it maps is read repeatedly, which is slower."""
    pagemap_scan: Answer
    """The ioctl PAGEMAP_SCAN; without it pagemap is read word by word, slower."""
    cap_sys_nice: bool
    """In the effective set; it counts only in the initial user namespace."""
    cap_sys_ptrace: bool
    """In the effective set."""
    cap_dac_read_search: bool
    """In the effective set: to find the pages of another user's process that are in
    memory or in swap; advising does not need it."""
    initial_user_namespace: bool | None
    """None if unknown."""
    initial_pid_namespace: bool | None
    container: str
    """Its manager: "docker", "podman", "kubernetes", ...; "" if none is found."""
    seccomp: str | None
    """"disabled", "strict" or "filter"; None if unknown."""
    nice: int
    """The nice value of this thread."""
    priority: Answer
    """Whether this thread gets a CPU soon enough to keep `max_stall`."""
    swap: Answer
    """Whether the swap space can be seen, as swap() sees it."""
    swap_total: int | None
    """Bytes; None if it can't be seen."""
    swap_free: int | None
    """Bytes; None if it can't be seen."""
    cgroup: Answer
    """Whether the caller's cgroup can be seen, which has the next two limits."""
    swap_allowed: int | None
    """Bytes that the caller's cgroup may still swap; None without a limit."""
    memory_limit: int | None
    """Bytes that the caller's cgroup may keep in memory; None without a limit."""
    pressure: Answer
    """Whether Pressure() may be used for the host."""
    ptrace_scope: int | None
    """Of Yama, which limits holds by ptrace, not advice; None without Yama."""
    idle: dict[str, Answer]
    """Whether each source of Process.track() can be had, the finest first."""
    reclaim: Answer
    """Whether reclaim() may be used for the cgroup of this process."""
    freezers: tuple[str, ...]
    """Writable cgroup hierarchies with a freezer: "cgroup2", "cgroup1"."""
    target: TargetSupport | None = None

    def to_dict(self) -> dict[str, object]:
        """Return all fields as json.dumps() takes them; advices by their names."""
        return cast("dict[str, object]", _plain(self))


def _plain(value: object) -> object:
    if isinstance(value, (Answer, Support, TargetSupport)):
        return {name: _plain(getattr(value, name)) for name in value.__match_args__}
    if isinstance(value, dict):
        return {
            advice_name(key) if isinstance(key, int) else key: _plain(answer)
            for key, answer in value.items()
        }
    return list(value) if isinstance(value, tuple) else value


def support(target: PidfdLike | None = None) -> Support:
    """Return the calls and limits of this host, this process and `target`.

    The answers are from calls without effect: the version of the kernel proves nothing,
    as distributions backport. If a seccomp filter kills callers of process_madvise,
    support() is killed as well; there is no safe way to probe for that.

    Args:
        target: A process ID, or a Process, or an object whose fileno() is a pidfd.

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
        answers = None if target is None else TargetAnswers(target)
        try:
            other = -1 if answers is None else answers.pidfd
            known, other_processes = kernel.advices(call, pidfd.fd, other)
            target_support = None if answers is None else answers.support(call, known)
        finally:
            if answers is not None:
                answers.close()
        own = kernel.own_process(call, pidfd.fd)
    finally:
        pidfd.close()
    effective = capabilities()
    found = swap_or_answer()
    can_see, swap_space = (found, None) if isinstance(found, Answer) else (YES, found)
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
        swap=can_see,
        swap_total=None if swap_space is None else swap_space.total,
        swap_free=None if swap_space is None else swap_space.free,
        cgroup=host.own_cgroup(),
        swap_allowed=host.swap_allowed(),
        memory_limit=None if limit is None else limit[0],
        pressure=host.pressure(),
        ptrace_scope=host.ptrace_scope(),
        idle=sources(),
        reclaim=host.may_reclaim(own_memberships(), os.getpid()),
        freezers=host.freezers(),
        target=target_support,
    )
