"""Checks of the target: another user's, one that execs or exits, one that is held."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pmadvise
from pmadvise import PAGE_SIZE, Advice, Process
from pmadvise._proc.rights import proc_is_of_own_namespace
from pmadvise._support import host
from pmadvise.selftest.child import Child, register, signals_blocked, unregister
from pmadvise.selftest.requirements import (
    SMALL,
    Skip,
    mib,
    require_raises,
    require_whole,
    summary,
)

NOBODY = 65534
_STEPS = 50
_YAMA_ADMIN_ONLY = 2  # Documentation/admin-guide/LSM/Yama.rst


@summary("Try another user's process, and one without CAP_SYS_NICE: both are refused.")
def check_stranger(_size: int) -> str:
    if os.geteuid() != 0:
        return _try_process_1()
    with Child() as target, Child() as asking:
        target.require_permission()
        answer = _ask_as_nobody(asking, "check", target.pid, Advice.COLD)
        _require_refused(answer, errno.EACCES)
        with Child() as same:
            _ask_as_nobody(same, "pid")
            answer = asking.ask("check", same.pid, Advice.COLD)
        _require_refused(answer, errno.EPERM)
    return "refused: another user (EACCES), the same without CAP_SYS_NICE (EPERM)"


def _require_refused(answer: object, number: int) -> None:
    """Raise unless check() raised this errno, and support() answered the same text."""
    if not isinstance(answer, dict):
        raise AssertionError(f"a child returns {answer!r}")
    same_text = str(answer["why"]) in str(answer["text"])
    if not (answer["errno"] == answer["answered"] == number and same_text):
        name = errno.errorcode[number]
        raise AssertionError(f"user {NOBODY} should be refused with {name}: {answer}")


def _ask_as_nobody(child: Child, *question: object) -> object:
    try:
        return child.ask("as", NOBODY, *question)
    except OSError as error:
        raise Skip(
            f"a child can't become user {NOBODY} ({error.strerror}): run with "
            "CAP_SETUID and CAP_SETGID, in a user namespace that has this user"
        ) from None


def _try_process_1() -> str:
    target = pmadvise.support(1).target
    if target is None or target.may.ok or target.may.refused_by == "memory":
        raise Skip("process 1 is no stranger here: run as root, to make one")
    if target.may.refused_by in ("seccomp", "kernel"):
        raise Skip(str(target.may))
    try:
        with Process(1) as process:
            process.cold([(0, PAGE_SIZE)])
    except PermissionError as error:
        if error.errno == target.may.errno:
            return f"process 1 is refused ({errno.errorcode[error.errno or 0]})"
        raise AssertionError(
            f"support() answers {target.may}, and cold() raises {error}"
        ) from error
    raise AssertionError(f"support() answers {target.may}, and process 1 was advised")


@summary("Let a target exec: no old address is advised.")
def check_exec(_size: int) -> str:
    with Child() as child:
        child.require_permission()
        address = child.map(SMALL)
        space = child.process.maps()
        try:
            child.ask("exec")
        except PermissionError as error:
            raise Skip(
                f"uid {os.geteuid()} may not execute {sys.executable} "
                f"({error.strerror}): install Python where this user can read it"
            ) from None
        report = child.process.cold([(address, SMALL)])
        if (report.ended, report.advised, space.stale) != ("exec", 0, True):
            raise AssertionError(f"stale is {space.stale}, and the account {report}")
        child.process.maps()
        report = child.process.cold()
        require_whole(report, report.requested)
    return "noticed: nothing advised before maps() is called again"


@summary("Let a target end: that is noticed between calls and before the first.")
def check_exit(_size: int) -> str:
    with Child() as child:
        child.require_permission()
        address = child.map(SMALL)

        def kill(_done: int, _total: int) -> None:
            if child.process.alive:
                child.kill()

        report = child.process.cold(
            [(address, SMALL)], max_stall=1e-9, on_progress=kill
        )
        if report.ended != "exited" or not 0 < report.advised < SMALL:
            raise AssertionError(
                f"it was killed meanwhile, and the account is {report}"
            )
        if child.process.alive or not child.process.wait(10):
            raise AssertionError("it was killed, and wait() does not report it")
        require_raises(
            "advising it",
            ProcessLookupError,
            errno.ESRCH,
            lambda: child.process.cold([(address, SMALL)]),
        )
    return f"noticed after {mib(report.advised)} of {mib(SMALL)}"


def _check_hold(child: Child, method: str) -> str:
    """Hold a child: it makes no step while another one does."""
    if not proc_is_of_own_namespace():
        raise Skip(
            "/proc shows another pid namespace, where no process can be held: "
            "mount -t proc proc /proc"
        )
    with Child() as witness:
        witness.ask("count")
        child.ask("count")

        def goes_on(counting: Child) -> None:
            before, deadline = counting.steps(), time.monotonic() + 60
            while counting.steps() < before + _STEPS:
                if time.monotonic() > deadline:
                    raise AssertionError(f"process {counting.pid} does not run on")
                time.sleep(0.001)

        goes_on(child)
        with child.process.hold(method, timeout=30) as held:
            before = child.steps()
            goes_on(witness)
            after = child.steps()
        if after != before or held.broken or held.method != method:
            raise AssertionError(
                f"{after - before} steps while held by {held.method}: {held.broken}"
            )
        goes_on(child)
    return f"no step in {_STEPS} of another process, and it runs on"


@summary("Hold a child by ptrace.")
def check_hold_ptrace(_size: int) -> str:
    with Child() as child:
        try:
            return _check_hold(child, "ptrace")
        except PermissionError as error:
            scope = host.ptrace_scope() or 0
            if scope >= _YAMA_ADMIN_ONLY:
                remedy = (
                    f"kernel.yama.ptrace_scope is {scope}: set it to 0 or 1 with "
                    "sysctl(8)"
                )
            elif pmadvise.support().seccomp == "filter":
                remedy = "a seccomp filter may refuse ptrace: add CAP_SYS_PTRACE"
            else:
                raise
            raise Skip(f"{error.strerror}: {remedy}") from None


@summary("Hold a child by the freezer of a cgroup of its own.")
def check_hold_freezer(_size: int) -> str:
    directories = host.freezer_directories()
    if not directories:
        raise Skip(
            "no cgroup freezer is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        )
    version, directory = directories[0]  # as hold() chooses: version 2 before 1
    with (
        Child() as child,
        _cgroup_for(child.pid, directory, "pmadvise-selftest"),
    ):
        detail = _check_hold(child, "freezer")
    return f"cgroup v{version}: {detail}"


@summary("Hold a child by SIGSTOP.")
def check_hold_sigstop(_size: int) -> str:
    with Child() as child:
        return _check_hold(child, "sigstop")


@contextmanager
def _cgroup_for(pid: int, directory: str, name: str) -> Iterator[str]:
    """Make a cgroup for a child below that of this process; remove it at the end."""
    path = os.path.join(directory, f"{name}-{os.getpid()}")

    def remove() -> None:
        with signals_blocked():
            if unregister(remove):
                _remove_cgroup(path, directory, pid)

    try:
        with signals_blocked():
            os.mkdir(path)
            register(remove)
        with open(os.path.join(path, "cgroup.procs"), "wb") as file:
            file.write(b"%d" % pid)
    except OSError as error:
        remove()
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise Skip(
            f"no cgroup can be made in {directory} ({error.strerror}): run as root, "
            "with the cgroups mounted read-write, or delegate the cgroup to this user"
        ) from None
    try:
        yield path
    finally:
        remove()


def _remove_cgroup(path: str, parent: str, pid: int) -> None:
    with suppress(OSError), open(os.path.join(parent, "cgroup.procs"), "wb") as file:
        file.write(b"%d" % pid)
    deadline = time.monotonic() + 10
    while True:
        try:
            return os.rmdir(path)
        except FileNotFoundError:
            return None
        except OSError:  # EBUSY: a process is still leaving it
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
