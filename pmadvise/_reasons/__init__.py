"""Reasons of refusals: the refusing check, the cause, and the remedy.

An exception and an answer of support() about the same refusal take their text from
here. If an errno has several causes, calls without effect tell them apart.
"""

from __future__ import annotations

import errno
import mmap
import os

from pmadvise._native.base import PAGE_SIZE
from pmadvise._native.process_madvise import probe
from pmadvise._origin import own
from pmadvise._proc.pidfds import directory_of, no_mm, pid_of
from pmadvise._proc.rights import Seccomp
from pmadvise._reasons.access import (
    huge_pages_disabled,
    no_cap_sys_nice,
    no_dac_read_search,
    no_memory,
    no_ptrace,
    of_proc_file,
)
from pmadvise._reasons.answer import (
    YES,
    Answer,
    errno_name,
    how_to_add,
    how_to_allow,
    refusal,
)
from pmadvise._reasons.hidden import (
    foreign,
    has_no_swap,
    hidden,
    no_cgroup,
    no_pressure,
    no_proc,
    no_swaps,
)
from pmadvise.advice import REMOTE, Advice, advice_name

__all__ = [
    "YES",
    "Answer",
    "advice_unknown",
    "call_missing",
    "errno_name",
    "feature_missing",
    "foreign",
    "has_no_swap",
    "hidden",
    "how_to_add",
    "how_to_allow",
    "huge_pages_disabled",
    "low_priority",
    "no_cap_sys_nice",
    "no_cgroup",
    "no_dac_read_search",
    "no_descriptor",
    "no_huge_pages",
    "no_memory",
    "no_pressure",
    "no_proc",
    "no_ptrace",
    "no_swaps",
    "of_own_process",
    "of_pidfd_open",
    "of_proc_file",
    "of_process_madvise",
    "of_range",
    "process_madvise_call",
    "refusal",
    "refused_by_seccomp",
    "wrong_syscall_number",
]


def wrong_syscall_number(call: str, number: int) -> Answer:
    """Return the answer if the number is that of another system call."""
    return refusal(
        "build",
        number,
        f"{call} returned {errno_name(number)}, which it never does, and there is no "
        "seccomp filter",
        "the number of the system call is wrong in this build",
    )


def refused_by_seccomp(call: str, number: int) -> Answer:
    """Return the answer if a filter refuses a system call with an errno."""
    by = "" if number == errno.EPERM else f" (with {errno_name(number)})"
    return refusal(
        "seccomp",
        number,
        f"a seccomp filter refuses {call}{by}",
        how_to_allow(call),
    )


def call_missing(call: str, seccomp: Seccomp) -> Answer:
    """Return the answer to ENOSYS: the kernel lacks the call, or a filter hides it."""
    if seccomp.may_fake_enosys():
        return refusal(
            "seccomp",
            errno.ENOSYS,
            f"a seccomp filter hides {call}, and the kernel is new enough to have it",
            how_to_allow(call),
        )
    if call == "process_madvise" and not _has_madvise():
        return refusal(
            "kernel",
            errno.ENOSYS,
            "the kernel was built without CONFIG_ADVISE_SYSCALLS",
            "run a kernel with it",
        )
    disabled = seccomp.mode == "disabled"
    or_filter = "" if disabled else ", or a seccomp filter hides it (ENOSYS)"
    since = "5.3" if call == "pidfd_open" else REMOTE[Advice.COLD]
    return refusal(
        "kernel",
        errno.ENOSYS,
        f"the kernel is too old to have {call}{or_filter}",
        f"Linux {since} or newer is needed",
    )


def _has_madvise() -> bool:
    with mmap.mmap(-1, PAGE_SIZE) as page:
        try:
            page.madvise(mmap.MADV_NORMAL)
        except own(OSError) as error:
            return error.errno != errno.ENOSYS
    return True


def feature_missing(feature: str, number: int, since: str) -> Answer:
    """Return the answer if a flag or an ioctl is unknown, or refused."""
    if number in (errno.ENOTTY, errno.EINVAL):
        return refusal(
            "kernel",
            number,
            f"the kernel does not know {feature}",
            f"Linux {since} or newer is needed",
        )
    return refusal("seccomp", number, f"{feature} is refused with {errno_name(number)}")


def advice_unknown(advice: int) -> Answer:
    """Return the answer if the kernel does not know the advice for other processes."""
    since = REMOTE.get(Advice(advice)) if advice in REMOTE else None
    huge = ", with transparent huge pages," if advice == Advice.COLLAPSE else ""
    return refusal(
        "kernel",
        errno.EINVAL,
        f"the kernel does not know {advice_name(advice)} for another process",
        f"Linux {since} or newer{huge} is needed" if since else "",
    )


def no_huge_pages() -> Answer:
    """Return the answer if the kernel knows COLLAPSE but can't make huge pages."""
    return refusal(
        "kernel", errno.EINVAL, "there are no transparent huge pages on this machine"
    )


def of_own_process(number: int) -> Answer:
    """Return the answer if the caller itself may be advised no more than others."""
    return refusal(
        "kernel",
        number,
        "this kernel accepts the same advice for the caller itself as for other "
        "processes",
        "Linux 6.13 or newer is needed",
    )


def low_priority(how: str) -> Answer:
    """Return the answer if the caller may have to wait for a CPU.

    Args:
        how: The priority of this thread: "at nice 19".
    """
    return refusal(
        "priority",
        None,
        f"this thread runs {how}: it is preempted while it holds the target's mmap "
        "lock, so max_stall cannot be kept",
        "run at nice 0 or below, with SCHED_OTHER (systemd: Nice=-5)",
    )


def no_descriptor(number: int) -> Answer:
    """Return the answer if no file descriptor is free: EMFILE or ENFILE."""
    if number == errno.ENFILE:
        reason = "the host has no free file descriptor"
        return refusal("descriptors", number, reason, "raise the sysctl fs.file-max")
    return refusal(
        "descriptors",
        number,
        "this process has no free file descriptor",
        "close some, or raise RLIMIT_NOFILE (ulimit -n; systemd: LimitNOFILE=)",
    )


def of_pidfd_open(number: int) -> Answer:
    """Return the answer to an errno of pidfd_open(2)."""
    if number in (errno.EMFILE, errno.ENFILE):
        return no_descriptor(number)
    if number in _PIDFD_OPEN:
        by, reason, remedy = _PIDFD_OPEN[number]
        return refusal(by, number, reason, remedy)
    return _of_call("pidfd_open", number)


def _of_call(call: str, number: int) -> Answer:
    """Return the answer to an errno that is not specific to the system call."""
    seccomp = Seccomp.of_this_thread()
    if number == errno.ENOSYS:
        return call_missing(call, seccomp)
    if number == errno.ENOMEM:
        return refusal("kernel", number, "the kernel is out of memory")
    if seccomp.mode == "disabled":
        return wrong_syscall_number(call, number)
    return refused_by_seccomp(call, number)


def process_madvise_call(advice: int = Advice.COLD) -> Answer:
    """Return whether the system call exists: for -1, no pidfd, it returns EBADF."""
    number = -probe(-1, advice)
    return YES if number == errno.EBADF else _of_call("process_madvise", number)


def of_process_madvise(pidfd: int, advice: int, number: int, flags: int = 0) -> Answer:
    """Return the answer to an errno of process_madvise(2)."""
    call = process_madvise_call(advice)
    if not call and call.errno == number:
        return call
    if number in (errno.EPERM, errno.EACCES, errno.ESRCH):
        return _no_access(pidfd, number)
    if number == errno.EINVAL and flags:
        reason = f"flags is {flags:#x}, but process_madvise(2) defines no flags"
        return refusal("argument", number, reason, "pass 0")
    if number == errno.EINVAL and probe(pidfd, advice) == -errno.EINVAL:
        own = advice not in REMOTE and _is_own(pidfd)
        return of_own_process(number) if own else advice_unknown(advice)
    if number in _PROCESS_MADVISE:
        by, reason, remedy = _PROCESS_MADVISE[number]
        return refusal(by, number, reason, remedy)
    return refusal("kernel", number)


def _no_access(pidfd: int, number: int) -> Answer:
    if number == errno.EPERM:
        return no_cap_sys_nice()
    try:
        proc, _ = directory_of(pidfd)
    except own(OSError, ValueError) as error:
        if number != errno.ESRCH:
            return no_ptrace(-1)
        reaped = isinstance(error, ProcessLookupError)
        return no_memory("the process has exited" if reaped else _NO_MEMORY)
    if number == errno.ESRCH:
        why = no_mm(pidfd, proc.fd) if proc is not None else None
        return no_memory(why or _NO_MEMORY)
    return no_ptrace(proc.fd) if proc is not None else hidden()


def _is_own(pidfd: int) -> bool:
    try:
        return pid_of(pidfd) == os.getpid()
    except own(OSError, ValueError):
        return False


def of_range(advice: int, number: int) -> str:
    """Return the reason of an errno for one range, in a few words."""
    if advice == Advice.COLLAPSE and number in _COLLAPSE:
        return _COLLAPSE[number]
    return _RANGE.get(number) or os.strerror(number)


_RANGE = {
    0: "the kernel advised none of it and gave no reason",
    errno.EAGAIN: "the kernel can't move it now: busy, or pinned (which may last)",
    errno.EFAULT: "outside of user space",
    errno.EINVAL: "locked, hugetlb or a device's",
    errno.ENOMEM: "not mapped, or no memory for it",
}
_COLLAPSE = {
    errno.EAGAIN: "in use by the kernel, of a file and not yet written, or pinned "
    "(which may last)",
    errno.EBUSY: "no memory for a huge page within the limit of the target's cgroup, "
    "or (Linux 7.2) most of it was never touched",
    errno.EINVAL: "can't be a huge page: too short, nothing in memory, or not allowed "
    "(MADV_NOHUGEPAGE, PR_SET_THP_DISABLE)",
    errno.ENOMEM: "not mapped, or the kernel has no free huge page",
}
_NO_MEMORY = (
    "the target has exited, or has no memory of its own: a zombie, a kernel thread, or "
    "a thread group whose leader has exited"
)

# errno: refusing check, reason, remedy
_PIDFD_OPEN = {
    errno.EINVAL: (
        "argument",
        "pid is not the ID of a process, or the kernel does not know these flags",
        "a thread's ID needs PIDFD_THREAD, Linux 6.9",
    ),
    errno.ENOENT: (
        "argument",
        "pid is the ID of a thread that is not the leader of its process",
        "use PIDFD_THREAD, Linux 6.9",
    ),
    errno.ESRCH: ("exited", "there is no such process", ""),
}
_PROCESS_MADVISE = {
    errno.EAGAIN: (
        "mapping",
        "the kernel can't move the memory now: busy, or pinned",
        "try again; a pin may last",
    ),
    errno.EBADF: (
        "argument",
        "pidfd is not an open file descriptor of pidfd_open(2)",
        "",
    ),
    errno.EFAULT: (
        "mapping",
        "a range lies outside of user space, as [vsyscall] does",
        "leave it out",
    ),
    errno.EINVAL: (
        "mapping",
        "the first range has a mapping that can't be advised so: locked, hugetlb, "
        "or of a device (VM_LOCKED, VM_HUGETLB, VM_PFNMAP)",
        "leave it out",
    ),
    errno.ENOMEM: (
        "mapping",
        "a part of the first range is not mapped, and its mapped parts were advised; "
        "or the kernel is out of memory",
        "read the target's mappings again",
    ),
}
