"""Checks of other users' processes, and of targets that exec or exit."""

from __future__ import annotations

import errno
import os
import sys

import pmadvise
from pmadvise import PAGE_SIZE, Advice, Process
from pmadvise.selftest.child import Child
from pmadvise.selftest.requirements import Skip, mib
from pmadvise.selftest.tools import (
    SMALL,
    require_permission,
    require_raises,
    require_whole,
)

NOBODY = 65534


def check_stranger(_size: int) -> str:
    """Try another user's process, and one without CAP_SYS_NICE: both are refused."""
    if os.geteuid() != 0:
        return _try_process_1()
    with Child() as target, Child() as asking:
        require_permission(target)
        found = _ask_as_nobody(asking, "check", target.pid, Advice.COLD)
        _require_refused(found, errno.EACCES)
        with Child() as same:
            _ask_as_nobody(same, "pid")
            found = asking.ask("check", same.pid, Advice.COLD)
        _require_refused(found, errno.EPERM)
    return "refused: another user (EACCES), the same without CAP_SYS_NICE (EPERM)"


def _require_refused(found: object, number: int) -> None:
    """Raise unless check() raised this errno, and support() answered the same text."""
    if not isinstance(found, dict):
        raise AssertionError(f"a child returns {found!r}")
    same_text = str(found["why"]) in str(found["text"])
    if not (found["errno"] == found["answered"] == number and same_text):
        name = errno.errorcode[number]
        raise AssertionError(f"user {NOBODY} should be refused with {name}: {found}")


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


def check_exec(_size: int) -> str:
    """Let a target exec: no old address is advised."""
    with Child() as child:
        require_permission(child)
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


def check_exit(_size: int) -> str:
    """Let a target end: that is noticed between calls and before the first."""
    with Child() as child:
        require_permission(child)
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
