"""Reasons of refusals: who refuses, why, and the remedy.

The one book: an exception and an answer of support() about the same refusal have the
same text. Where one errno has several causes, the kernel is asked with calls that do
nothing.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pmadvise._native.base import PAGE_SIZE
from pmadvise._native.process_madvise import probe
from pmadvise._proc.files import fields, read_in, read_or_none
from pmadvise._proc.pidfds import directory_of
from pmadvise._proc.rights import (
    Seccomp,
    capability_names,
    initial_namespace,
    may_read_any_file,
    own_status,
    proc_is_of_own_namespace,
)
from pmadvise.advice import REMOTE, Advice, advice_name


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether something can be done, and if not, why: true where it can."""

    ok: bool
    refused_by: str = ""
    """The check that refuses: "seccomp", "kernel", "ptrace", "capability", "memory"
    (it has none), "exited", "proc" (its directory in /proc is hidden), "mapping" (of
    the range), "argument", "build" (a wrong number of a system call); "" if none."""
    errno: int | None = None
    """The kernel's errno."""
    reason: str = ""
    """Which check refuses, and why."""
    remedy: str = ""
    """What to do about it; "" where nothing is known to help."""

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        """Return reason and remedy: "a filter refuses it: add a capability"."""
        return f"{self.reason}: {self.remedy}" if self.remedy else self.reason or "yes"

    def error(self, call: str) -> OSError:
        """Return the exception for this refusal of a call or file."""
        number = self.errno or errno.EIO
        text = f"{call}: {os.strerror(number)}"
        return OSError(number, f"{text}: {self}" if self.reason else text)


YES = Answer(True)


def name_of(number: int) -> str:
    """Return the name of an errno."""
    return errno.errorcode.get(number, str(number))


def how_to_allow(call: str) -> str:
    """Return how a seccomp filter is made to let `call` through."""
    if call != "process_madvise":
        return (
            f"allow {call} in the filter (docker and podman run "
            "--security-opt seccomp=PROFILE.json; Kubernetes: "
            "securityContext.seccompProfile; "
            f"systemd: SystemCallFilter={call})"
        )
    return (
        "add CAP_SYS_PTRACE (docker run --cap-add=SYS_PTRACE; "
        "podman run --cap-add=SYS_PTRACE; "
        'Kubernetes: securityContext.capabilities.add: ["SYS_PTRACE"]), which opens '
        f"the default filters; systemd: SystemCallFilter={call}"
    )


def how_to_add(capability: str) -> str:
    """Return how a capability, its name without CAP_, is added."""
    return (
        f"add CAP_{capability} (docker run --cap-add={capability}; "
        f"podman run --cap-add={capability}, as root; "
        f'Kubernetes: securityContext.capabilities.add: ["{capability}"]; '
        f"systemd: AmbientCapabilities=CAP_{capability})"
    )


def wrong_syscall_number(call: str, number: int) -> Answer:
    """Return the answer where another system call answered."""
    return Answer(
        False,
        "build",
        number,
        f"{call} answers {name_of(number)}, which it never does, and no seccomp filter "
        "is there",
        "the number of the system call is wrong in this build",
    )


def refused_by_seccomp(call: str, number: int) -> Answer:
    """Return the answer where a filter refuses a system call with an errno."""
    by = "" if number == errno.EPERM else f" (with {name_of(number)})"
    return Answer(
        False,
        "seccomp",
        number,
        f"a seccomp filter refuses {call}{by}",
        how_to_allow(call),
    )


def call_missing(call: str, seccomp: Seccomp) -> Answer:
    """Return the answer to ENOSYS: the kernel lacks the call, or a filter hides it."""
    if seccomp.may_fake_enosys():
        return Answer(
            False,
            "seccomp",
            errno.ENOSYS,
            f"a seccomp filter hides {call}, which the kernel is new enough to have",
            how_to_allow(call),
        )
    if call == "process_madvise" and not _has_madvise():
        return Answer(
            False,
            "kernel",
            errno.ENOSYS,
            "the kernel was built without CONFIG_ADVISE_SYSCALLS",
            "run one that has it",
        )
    hidden = (
        "" if seccomp.mode == "disabled" else ", or a seccomp filter hides it (ENOSYS)"
    )
    since = "5.3" if call == "pidfd_open" else REMOTE[Advice.COLD]
    return Answer(
        False,
        "kernel",
        errno.ENOSYS,
        f"the kernel is too old to have {call}{hidden}",
        f"Linux {since} or newer is needed",
    )


def _has_madvise() -> bool:
    with mmap.mmap(-1, PAGE_SIZE) as page:
        try:
            page.madvise(mmap.MADV_NORMAL)
        except OSError as error:
            return error.errno != errno.ENOSYS
    return True


def feature_missing(feature: str, number: int, since: str) -> Answer:
    """Return the answer where a flag or an ioctl is unknown, or refused."""
    if number in (errno.ENOTTY, errno.EINVAL):
        return Answer(
            False,
            "kernel",
            number,
            f"the kernel does not know {feature}",
            f"Linux {since} or newer is needed",
        )
    return Answer(
        False, "seccomp", number, f"{feature} is refused with {name_of(number)}"
    )


def advice_unknown(advice: int) -> Answer:
    """Return the answer where the kernel knows no such advice for others."""
    since = REMOTE.get(Advice(advice)) if advice in REMOTE else None
    huge = ", with transparent huge pages," if advice == Advice.COLLAPSE else ""
    return Answer(
        False,
        "kernel",
        errno.EINVAL,
        f"the kernel does not know {advice_name(advice)} for another process",
        f"Linux {since} or newer{huge} is needed" if since else "",
    )


def of_pidfd_open(number: int) -> Answer:
    """Return the answer to an errno of pidfd_open(2)."""
    if number == errno.ENOSYS:
        return call_missing("pidfd_open", Seccomp.of_this_thread())
    if number in (errno.EPERM, errno.EACCES):
        return refused_by_seccomp("pidfd_open", number)
    return Answer(False, *_PIDFD_OPEN.get(number, ("kernel", number)))


def no_cap_sys_nice() -> Answer:
    """Return the answer where CAP_SYS_NICE is missing."""
    inside = initial_namespace("user") is False
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


def no_ptrace(proc: int, number: int = errno.EACCES) -> Answer:
    """Return the answer where ptrace read access is refused: __ptrace_may_access().

    Args:
        proc: File descriptor of the target's directory /proc/PID.
        number: The kernel's errno.
    """
    try:
        theirs = fields(read_in(proc, "status"))
        owner = os.stat("maps", dir_fd=proc).st_uid
        pid = int(theirs["Pid"])
    except (OSError, ValueError, KeyError):
        theirs, owner, pid = {}, None, 0
    why, remedy = _why_no_ptrace(theirs, owner)
    more = how_to_add("SYS_PTRACE")
    return Answer(
        False,
        "ptrace",
        number,
        f"ptrace read access to process {pid or 'of the pidfd'} is refused: {why}",
        "" if remedy is None else f"{remedy}{', or ' * bool(remedy)}{more}",
    )


def _why_no_ptrace(
    theirs: Mapping[str, bytes], owner: int | None
) -> tuple[str, str | None]:
    """Return the reason, and a remedy beside CAP_SYS_PTRACE, None if that is none."""
    own = own_status()
    if "Uid" not in theirs or "Uid" not in own:
        return "it is another user's, or hidden", ""
    modules = os.fsdecode(read_or_none("/sys/kernel/security/lsm") or b"").strip()
    module = f"a security module refuses{f' (there are {modules})' if modules else ''}"
    effective = capability_names(own.get("CapEff", b""))
    if "CAP_SYS_PTRACE" in effective and initial_namespace("user"):
        return f"{module}, or a sandbox, though CAP_SYS_PTRACE is there", None
    for name, kind in (("Uid", "user"), ("Gid", "group")):
        mine = own[name].split()[3].decode()
        ids = [one.decode() for one in theirs[name].split()[:3]]
        if set(ids) != {mine}:
            whose = "/".join(dict.fromkeys(ids))
            return (
                f"it is another {kind}'s ({name.lower()} {whose}, the caller's is "
                f"{mine})",
                f"run as its {kind}",
            )
    if owner is not None and owner != int(theirs["Uid"].split()[1]):
        return (
            "it is not dumpable: it called prctl(PR_SET_DUMPABLE, 0), changed its user "
            "ID, or runs a program that it cannot read",
            "let it call prctl(PR_SET_DUMPABLE, 1)",
        )
    more = sorted(capability_names(theirs.get("CapPrm", b"")) - effective)
    if more:
        names = ", ".join(more[:3]) + (", ..." if len(more) > 3 else "")
        return f"it has capabilities that the caller lacks ({names})", ""
    return f"it is not dumpable, or of another user namespace, or {module}", ""


def no_dac_read_search(name: str) -> Answer:
    """Return the answer where the mode of a file of /proc/PID forbids reading it."""
    return Answer(
        False,
        "capability",
        errno.EACCES,
        f"/proc/PID/{name} of another user's process may be read by that user alone, "
        "whatever the right to ptrace it, and CAP_DAC_READ_SEARCH is missing",
        f"run as its user or as root, or {how_to_add('DAC_READ_SEARCH')}",
    )


def hidden() -> Answer:
    """Return the answer where the directory /proc/PID of a process is hidden."""
    where = (
        "/proc is mounted with hidepid"
        if proc_is_of_own_namespace()
        else "/proc is not mounted, or shows another pid namespace"
    )
    return Answer(
        False,
        "proc",
        errno.EACCES,
        f"/proc/PID of the process is hidden: {where}",
        "run as root, or mount /proc without hidepid and for this namespace",
    )


def of_proc_file(proc: int, name: str, number: int) -> Answer:
    """Return the answer to an errno on opening or reading a file of /proc/PID.

    Args:
        proc: File descriptor of the directory.
        name: Of the file.
        number: The kernel's errno.
    """
    if number in (errno.ENOENT, errno.ESRCH):
        return Answer(False, "exited", errno.ESRCH, "the process has exited")
    if number in (errno.EACCES, errno.EPERM):
        try:
            found = os.stat(name, dir_fd=proc)
        except OSError:
            return no_ptrace(proc, number)
        uid = int(own_status().get("Uid", b"0 0 0 0").split()[3])
        # Owner root does not prove another user: a process that is not dumpable is
        # shown as root's, and its own user lacks ptrace access to it.
        by_mode = not found.st_mode & 0o004 and uid != found.st_uid
        if by_mode and not may_read_any_file() and _may_ptrace(proc):
            return no_dac_read_search(name)
        return no_ptrace(proc, number)
    return Answer(False, "kernel", number, f"/proc/PID/{name} can't be read")


def _may_ptrace(proc: int) -> bool:
    """Return whether ptrace read access is given: any mode of maps lets it be opened."""
    try:
        os.close(os.open("maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc))
    except OSError:
        return False
    return True


def of_process_madvise(pidfd: int, advice: int, number: int, flags: int = 0) -> Answer:
    """Return the answer to an errno of process_madvise(2)."""
    if number == errno.EPERM:
        if probe(-1, advice) == -errno.EPERM:
            return refused_by_seccomp("process_madvise", number)
        return no_cap_sys_nice()
    if number == errno.ENOSYS:
        return call_missing("process_madvise", Seccomp.of_this_thread())
    if number == errno.EACCES:
        return _no_ptrace_of(pidfd)
    if number == errno.EINVAL and flags:
        return Answer(
            False,
            "argument",
            number,
            f"flags is {flags:#x}, and the kernel knows none",
            "pass 0",
        )
    if number == errno.EINVAL and probe(pidfd, advice) == -errno.EINVAL:
        return advice_unknown(advice)
    return Answer(False, *_PROCESS_MADVISE.get(number, ("kernel", number)))


def _no_ptrace_of(pidfd: int) -> Answer:
    try:
        proc, _ = directory_of(pidfd)
    except (OSError, ValueError):
        proc = -1
    try:
        return no_ptrace(proc)
    finally:
        if proc >= 0:
            os.close(proc)


def of_range(advice: int, number: int) -> str:
    """Return why one range is refused with an errno, in a few words."""
    if advice == Advice.COLLAPSE and number in _COLLAPSE:
        return _COLLAPSE[number]
    return _RANGE.get(number) or os.strerror(number)


_RANGE = {
    0: "the kernel took none of it and gave no reason",
    errno.EAGAIN: "the kernel can't move it now: busy, or pinned (which may last)",
    errno.EFAULT: "outside of user space",
    errno.EINVAL: "locked, hugetlb or a device's",
    errno.ENOMEM: "not mapped, or no memory for it",
}
_COLLAPSE = {
    errno.EAGAIN: "in use by the kernel or pinned: a pin may last for ever",
    errno.EBUSY: "no memory for a huge page within the limit of the target's cgroup",
    errno.EINVAL: "cannot be a huge page: too short, nothing in memory, or not allowed",
    errno.ENOMEM: "not mapped, or the kernel has no free huge page",
}

_PIDFD_OPEN: dict[int, tuple[str, int, str, str]] = {
    errno.EINVAL: (
        "argument",
        errno.EINVAL,
        "pid is not the ID of a process, or the kernel does not know these flags",
        "a thread's ID needs PIDFD_THREAD, Linux 6.9",
    ),
    errno.ENOENT: (
        "argument",
        errno.ENOENT,
        "it is a thread and not the leader of its process",
        "use PIDFD_THREAD, Linux 6.9",
    ),
    errno.ESRCH: ("exited", errno.ESRCH, "there is no such process", ""),
    errno.EMFILE: (
        "kernel",
        errno.EMFILE,
        "this process has no free file descriptor",
        "close some, or raise RLIMIT_NOFILE (ulimit -n)",
    ),
}
_PROCESS_MADVISE: dict[int, tuple[str, int, str, str]] = {
    errno.EAGAIN: (
        "mapping",
        errno.EAGAIN,
        "the kernel can't move the memory now: busy, or pinned",
        "try again; a pin may last",
    ),
    errno.EBADF: (
        "argument",
        errno.EBADF,
        "pidfd is not an open file descriptor of pidfd_open(2)",
        "",
    ),
    errno.EFAULT: (
        "mapping",
        errno.EFAULT,
        "a range lies outside of user space, as [vsyscall] does",
        "leave it out",
    ),
    errno.EINVAL: (
        "mapping",
        errno.EINVAL,
        "the first range holds a mapping that takes no such advice: locked, hugetlb, "
        "or of a device (VM_LOCKED, VM_HUGETLB, VM_PFNMAP)",
        "leave it out",
    ),
    errno.ENOMEM: (
        "mapping",
        errno.ENOMEM,
        "a part of the first range is not mapped, and its mapped parts were advised; "
        "or the kernel has no memory",
        "read the target's mappings again",
    ),
    errno.ESRCH: (
        "memory",
        errno.ESRCH,
        "the target has exited, or has no memory of its own: a zombie, a kernel "
        "thread, or a thread group whose leader has exited",
        "",
    ),
}
