"""What this host, this process and a target allow: asked of the kernel, with reasons.

The module is not named after its function, which would hide it: importing a module
``pmadvise.support`` would take the place of the function ``pmadvise.support``.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from pmadvise import _host, _sys
from pmadvise._host import Filter, how_to_add, how_to_allow
from pmadvise._identity import directory_of, pid_of, why_no_mm
from pmadvise.advice import REMOTE, Advice, advice_name
from pmadvise.calls import PIDFD_THREAD, PidfdLike, explain, fileno_of, pidfd_open
from pmadvise.maps import Mm, read_proc

_NO_ADVICE = -1  # which the kernel knows as none


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether something can be done, and if not, why: true where it can."""

    ok: bool
    refused_by: str = ""
    """The check that refuses: "seccomp", "kernel", "ptrace", "capability", "memory"
    (it has none), "exited", "proc" (its directory is not to be seen), "build" (a wrong
    number of a system call); "" if none."""
    errno: int | None = None
    """What the kernel answers."""
    reason: str = ""
    """Which check refuses, and over what."""
    mend: str = ""
    """What would mend it; "" where nothing is known to."""

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        """Return reason and remedy: "a filter refuses it: add a capability"."""
        return f"{self.reason}: {self.mend}" if self.mend else self.reason or "yes"


YES = Answer(True)


@dataclass(frozen=True, slots=True)
class TargetSupport:
    """What may be done to a target."""

    pid: int
    """Its process ID, 0 where that can't be told."""
    may: Answer
    """Whether it may be advised at all."""
    advice: dict[Advice, Answer]
    """The same, for each advice that another process takes."""


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
        ValueError: Its file descriptor is not a pidfd of this pid namespace, or the
            Process is closed.
        OSError: It is the ID of a thread and not of a process (EINVAL, ENOENT), or no
            file descriptor is free.
    """
    if isinstance(target, bool):
        raise TypeError(f"target {target!r} is neither a process ID nor a process")
    filter_ = _host.Filter.of_this_thread()
    can_open, pidfd = _pidfd_open(filter_)
    try:
        call = _process_madvise(filter_)
        chosen = None if target is None else _Target(target)
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
        return _missing("process_madvise", filter_)
    if filter_.mode != "disabled":
        return _refused("process_madvise", -result)
    return _wrong("process_madvise", -result)


def _wrong(call: str, number: int) -> Answer:
    return Answer(
        False,
        "build",
        number,
        f"{call} answers {_name(number)}, which it never does, and there is no seccomp "
        "filter",
        "the number of the system call is wrong in this build",
    )


def _refused(call: str, number: int) -> Answer:
    also = "" if number == errno.EPERM else f" (with {_name(number)})"
    return Answer(
        False,
        "seccomp",
        number,
        f"a seccomp filter refuses {call}{also}",
        how_to_allow(call),
    )


def _missing(call: str, filter_: Filter) -> Answer:
    """Tell a call that the kernel lacks from one that a filter hides."""
    if filter_.hides():
        return Answer(
            False,
            "seccomp",
            errno.ENOSYS,
            f"a seccomp filter hides {call}, which the kernel is new enough to have",
            how_to_allow(call),
        )
    since = "5.3" if call == "pidfd_open" else "5.10"
    if call == "process_madvise" and not _has_madvise():
        return Answer(
            False,
            "kernel",
            errno.ENOSYS,
            "the kernel was built without CONFIG_ADVISE_SYSCALLS",
            "run one that has it",
        )
    hidden = (
        "" if filter_.mode == "disabled" else ", or a seccomp filter hides it (ENOSYS)"
    )
    return Answer(
        False,
        "kernel",
        errno.ENOSYS,
        f"the kernel is too old to have {call}{hidden}",
        f"Linux {since} or newer is needed",
    )


def _has_madvise() -> bool:
    with mmap.mmap(-1, _sys.PAGE_SIZE) as page:
        try:
            page.madvise(mmap.MADV_NORMAL)
        except OSError as error:
            return error.errno != errno.ENOSYS
    return True


def _pidfd_open(filter_: Filter) -> tuple[Answer, int]:
    """Open a pidfd of this process; return it too, -1 if there is none."""
    result = _sys.pidfd_open(os.getpid(), 0)
    if result >= 0:
        return YES, result
    if result == -errno.ENOSYS:
        return _missing("pidfd_open", filter_), -1
    if result in (-errno.EMFILE, -errno.ENFILE, -errno.ENOMEM):
        raise OSError(-result, f"pidfd_open: {os.strerror(-result)}")
    if filter_.mode == "disabled":
        return _wrong("pidfd_open", -result), -1
    return _refused("pidfd_open", -result), -1


def _pidfd_thread(can_open: Answer) -> Answer:
    if not can_open:
        return can_open
    result = _sys.pidfd_open(threading.get_native_id(), PIDFD_THREAD)
    if result >= 0:
        os.close(result)
        return YES
    return _too_old("PIDFD_THREAD", -result, "6.9")


def _procmap_query() -> Answer:
    try:
        fd = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Answer(False, "proc", error.errno, str(error))
    try:
        result = _sys.procmap_query(fd)
    finally:
        os.close(fd)
    return _too_old("PROCMAP_QUERY", -result, "6.11") if result < 0 else YES


def _pagemap_scan() -> Answer:
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Answer(False, "proc", error.errno, str(error))
    try:
        _sys.pagemap_scan(fd, [(0, _sys.PAGE_SIZE)], 0, _sys.PAGE_IS_PRESENT)
    except OSError as error:
        return _too_old("PAGEMAP_SCAN", error.errno or 0, "6.7")
    finally:
        os.close(fd)
    return YES


def _too_old(what: str, number: int, since: str) -> Answer:
    if number in (errno.ENOTTY, errno.EINVAL):
        return Answer(
            False,
            "kernel",
            number,
            f"the kernel does not know {what}",
            f"Linux {since} or newer is needed",
        )
    return Answer(False, "seccomp", number, f"{what} is refused with {_name(number)}")


def _advices(
    call: Answer, own: int, target: int
) -> tuple[dict[Advice, Answer], Answer]:
    """Tell which advices another process takes, and whether the caller may give any.

    Another process is asked about, whose check of the advice is reached: by
    permission, or as older kernels look at the advice first. Where there is none,
    the own process is: it takes the advices that others take, up to Linux 6.12, and
    all of them on newer kernels, which have all that others take.
    """
    advices = sorted(REMOTE)
    if not call:
        return dict.fromkeys(advices, call), call
    with _candidates(target, own) as pidfds:
        for pidfd in pidfds:
            if _sys.probe(pidfd, _NO_ADVICE) == -errno.EINVAL:
                known = {one: _advice(pidfd, one) for one in advices}
                return known, _others(pidfd if pidfd != own else -1)
    unknown = Answer(False, "proc", None, "no process could be asked about")
    return dict.fromkeys(advices, unknown), _others(-1)


class _candidates:
    """Pidfds to ask about: the target's, the parent's, pid 1's, the own."""

    def __init__(self, target: int, own: int) -> None:
        self._given = target, own
        self._opened: list[int] = []

    def __enter__(self) -> Iterator[int]:
        target, own = self._given
        me = os.getpid()
        for pid in (os.getppid(), 1):
            if pid not in (0, me) and (fd := _sys.pidfd_open(pid, 0)) >= 0:
                self._opened.append(fd)
        theirs = () if target >= 0 and _is_own(target) else (target,)
        return (fd for fd in (*theirs, *self._opened, own) if fd >= 0)

    def __exit__(self, *_: object) -> None:
        for fd in self._opened:
            os.close(fd)


def _is_own(pidfd: int) -> bool:
    """Tell whether a pidfd is of this process."""
    try:
        return int(os.readlink("/proc/self")) == pid_of(pidfd)
    except (OSError, ValueError):
        return False


def _advice(pidfd: int, advice: Advice) -> Answer:
    result = _sys.probe(pidfd, advice)
    if result == -errno.EINVAL:
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
        result == -errno.EACCES  # no process whose check of the capability is reached
        and "CAP_SYS_NICE" in _host.capabilities()
        and _host.initial_namespace("user") is not False
    ):
        return YES
    return _no_cap_sys_nice()


def _no_cap_sys_nice() -> Answer:
    inside = _host.initial_namespace("user") is False
    return Answer(
        False,
        "capability",
        errno.EPERM,
        "CAP_SYS_NICE in the initial user namespace is missing",
        (
            "this is another user namespace, where no capability helps: run in a "
            "container that has none (rootful podman, no --userns; Kubernetes: "
            "hostUsers: true; systemd: PrivateUsers=no)"
            if inside
            else f"run as root, or {how_to_add('SYS_NICE')}"
        ),
    )


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


def _name(number: int) -> str:
    return errno.errorcode.get(number, str(number))


class _Target:
    """A process that was asked about: pidfd and /proc directory, as Process has them.

    Args:
        target: A process ID, or what has a pidfd.
    """

    def __init__(self, target: PidfdLike) -> None:
        self.pid, self.pidfd, self._proc = 0, -1, -1
        self._error: OSError | None = None
        self._opened = isinstance(target, int)
        try:
            if isinstance(target, int):
                self.pid = target
                self.pidfd = pidfd_open(target)
            else:
                self.pidfd = fileno_of(target)
                self.pid = getattr(target, "pid", 0) or pid_of(self.pidfd)
            self._proc = directory_of(self.pidfd)
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.EPERM, errno.ENOSYS):
                self.close()
                raise
            self._error = error  # to be said, not raised
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what was opened here."""
        for fd in (self._proc, self.pidfd if self._opened else -1):
            if fd >= 0:
                os.close(fd)

    def support(self, call: Answer, known: dict[Advice, Answer]) -> TargetSupport:
        """Ask in the order in which advise() does."""
        no = self._no_access()
        if no is not None:
            return TargetSupport(self.pid, no, dict.fromkeys(known, no))
        answers = {one: self._answer(one, call, known[one]) for one in known}
        return TargetSupport(self.pid, answers[Advice.COLD], answers)

    def _no_access(self) -> Answer | None:
        """Return why its address space can't be reached."""
        if self._error is not None:
            return self._as_answer(self._error)
        try:
            mm = Mm(self._proc)
            try:
                if mm.current:
                    return None
            finally:
                mm.close()
        except (PermissionError, ProcessLookupError) as error:
            if isinstance(error, ProcessLookupError):
                return self._no_memory()
            if self._proc >= 0:
                return self._no_ptrace(error.errno or 0)
            return self._as_answer(error)
        return self._no_memory()

    def _no_memory(self) -> Answer:
        why = why_no_mm(self.pidfd, self._proc) or "is just changing it in exec"
        return Answer(False, "memory", errno.ESRCH, f"process {self.pid}: {why}")

    def _as_answer(self, error: OSError) -> Answer:
        reason = error.strerror or str(error)
        if error.errno == errno.EACCES:
            return Answer(
                False,
                "proc",
                errno.EACCES,
                reason,
                "run as root, or mount /proc without hidepid and for this namespace",
            )
        if error.errno == errno.ESRCH:
            return Answer(False, "exited", errno.ESRCH, reason)
        return Answer(False, "seccomp", error.errno, reason, how_to_allow("pidfd_open"))

    def _answer(self, advice: Advice, call: Answer, known: Answer) -> Answer:
        result = _sys.probe(self.pidfd, advice)
        if result == 0:
            return known
        if not call:
            return call
        if result == -errno.EINVAL and not known:
            return known
        if result == -errno.EPERM:
            return _no_cap_sys_nice()
        if result == -errno.EACCES:
            return self._no_ptrace(errno.EACCES)
        if result == -errno.ESRCH:
            return self._no_memory()
        error = explain(self.pidfd, advice, -result)
        return Answer(False, "kernel", -result, error.strerror or str(error))

    def _no_ptrace(self, number: int) -> Answer:
        """Tell what stands in the way of ptrace read access: __ptrace_may_access()."""
        try:
            theirs = _host.status(read_proc(self._proc, "status"))
            shown = os.stat("maps", dir_fd=self._proc).st_uid
        except (OSError, ValueError):
            theirs, shown = {}, None
        why, mend = _host.why_no_ptrace(theirs, shown)
        more = how_to_add("SYS_PTRACE")
        return Answer(
            False,
            "ptrace",
            number,
            f"ptrace read access to process {self.pid} is refused: {why}",
            "" if mend is None else f"{mend}{', or ' * bool(mend)}{more}",
        )
