"""Answers of support(): yes, or who refuses, why, and what would mend it."""

from __future__ import annotations

import errno
import mmap
from dataclasses import dataclass

from pmadvise import _host, _sys
from pmadvise._host import Filter, how_to_add, how_to_allow


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


def wrong(call: str, number: int) -> Answer:
    """Say that what was called is not that system call."""
    return Answer(
        False,
        "build",
        number,
        f"{call} answers {name_of(number)}, which it never does, and no seccomp filter "
        "is there",
        "the number of the system call is wrong in this build",
    )


def refused(call: str, number: int) -> Answer:
    """Say that a filter refuses a system call with an errno."""
    also = "" if number == errno.EPERM else f" (with {name_of(number)})"
    return Answer(
        False,
        "seccomp",
        number,
        f"a seccomp filter refuses {call}{also}",
        how_to_allow(call),
    )


def missing(call: str, filter_: Filter) -> Answer:
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


def too_old(what: str, number: int, since: str) -> Answer:
    """Say that the kernel does not know a flag or ioctl, or that it is refused."""
    if number in (errno.ENOTTY, errno.EINVAL):
        return Answer(
            False,
            "kernel",
            number,
            f"the kernel does not know {what}",
            f"Linux {since} or newer is needed",
        )
    return Answer(False, "seccomp", number, f"{what} is refused with {name_of(number)}")


def no_cap_sys_nice() -> Answer:
    """Say that CAP_SYS_NICE is missing, and whether it can be had."""
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


def name_of(number: int) -> str:
    """Return the name of an errno."""
    return errno.errorcode.get(number, str(number))
