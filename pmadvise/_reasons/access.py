"""Access to another process: the refusals by rights, file modes and /proc."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
from pmadvise._proc.files import fields, read_in, read_or_none
from pmadvise._proc.rights import (
    capability_names,
    initial_namespace,
    own_status,
)
from pmadvise._reasons.answer import (
    UNCONFINED,
    Answer,
    how_to_add,
    how_to_allow,
    refusal,
)


def no_cap_sys_nice() -> Answer:
    """Return the answer if CAP_SYS_NICE is missing."""
    inside = initial_namespace("user") is False
    return refusal(
        "capability",
        errno.EPERM,
        "CAP_SYS_NICE in the initial user namespace is missing",
        (
            "this is another user namespace, where no capability helps: run in a "
            "container without one (rootful podman, no --userns; Kubernetes: "
            "hostUsers: true; systemd: PrivateUsers=no)"
            if inside
            else f"run as root, or {how_to_add('SYS_NICE')}"
        ),
    )


def no_ptrace(proc: int, number: int = errno.EACCES) -> Answer:
    """Return the answer if ptrace read access is refused: __ptrace_may_access().

    Args:
        proc: File descriptor of the target's directory /proc/PID.
        number: The kernel's errno.
    """
    try:
        status = fields(read_in(proc, "status"))
        owner = os.stat("maps", dir_fd=proc).st_uid
        pid = int(status["Pid"])
    except own(OSError, ValueError, KeyError):
        status, owner, pid = {}, None, 0
    why, remedy = _why_no_ptrace(status, owner)
    more = how_to_add("SYS_PTRACE")
    return refusal(
        "ptrace",
        number,
        f"ptrace read access to process {pid or 'of the pidfd'} is refused: {why}",
        UNCONFINED if remedy is None else f"{remedy}{', or ' * bool(remedy)}{more}",
    )


def _why_no_ptrace(
    status: Mapping[str, bytes], owner: int | None
) -> tuple[str, str | None]:
    """Return the reason, and a remedy besides CAP_SYS_PTRACE; None: it is there."""
    own = own_status()
    if "Uid" not in status or "Uid" not in own:
        return "it belongs to another user, or is hidden", ""
    modules = os.fsdecode(read_or_none("/sys/kernel/security/lsm") or b"").strip()
    module = f"a security module refuses{f' (there are {modules})' if modules else ''}"
    effective = capability_names(own.get("CapEff", b""))
    if "CAP_SYS_PTRACE" in effective and initial_namespace("user"):
        return f"{module}, or a sandbox, although the caller has CAP_SYS_PTRACE", None
    for name, kind in (("Uid", "user"), ("Gid", "group")):
        mine = own[name].split()[3].decode()
        ids = [number.decode() for number in status[name].split()[:3]]
        if set(ids) != {mine}:
            theirs = "/".join(dict.fromkeys(ids))
            return (
                f"it belongs to another {kind} ({name.lower()} {theirs}, the caller's "
                f"is {mine})",
                f"run as its {kind}",
            )
    if owner is not None and owner != int(status["Uid"].split()[1]):
        return (
            "it is not dumpable: it called prctl(PR_SET_DUMPABLE, 0), changed its user "
            "ID, or runs a program that it cannot read",
            "let it call prctl(PR_SET_DUMPABLE, 1)",
        )
    more = sorted(capability_names(status.get("CapPrm", b"")) - effective)
    if more:
        names = ", ".join(more[:3]) + ", ..." * bool(more[3:])
        return f"it has capabilities that the caller lacks ({names})", ""
    return f"it is not dumpable, or of another user namespace, or {module}", ""


def no_attach(proc: int) -> Answer:
    """Return the answer if ptrace attach access is refused, which is more than read.

    Args:
        proc: File descriptor of the target's directory /proc/PID.
    """
    if not _may_open(proc, "maps"):
        return no_ptrace(proc, errno.EPERM)
    return refusal(
        "ptrace",
        errno.EPERM,
        "a security module lets the caller read it but not trace it (Yama: sysctl "
        "kernel.yama.ptrace_scope)",
        f"run as root, or {how_to_add('SYS_PTRACE')}",
    )


def of_process_vm_readv(proc: int, number: int) -> Answer:
    """Return the answer to an errno of process_vm_readv(2).

    Args:
        proc: File descriptor of the target's directory /proc/PID.
        number: The kernel's errno.
    """
    call = "process_vm_readv"
    if number == errno.ENOSYS:
        return refusal(
            "kernel",
            number,
            f"the kernel was built without CONFIG_CROSS_MEMORY_ATTACH, or a seccomp "
            f"filter hides {call}",
            how_to_allow(call),
        )
    if number == errno.ESRCH:
        return no_memory("the process has exited")
    # mem needs the same right, and the kernel shows its refusal without a filter
    if number in (errno.EPERM, errno.EACCES) and not _may_open(proc, "mem"):
        return no_attach(proc)
    return refusal(
        "seccomp", number, f"a seccomp filter refuses {call}", how_to_allow(call)
    )


def no_dac_read_search(name: str) -> Answer:
    """Return the answer if the mode of a file of /proc/PID forbids reading it."""
    return _refused_by_mode(name, "read", "DAC_READ_SEARCH")


def no_dac_override(name: str) -> Answer:
    """Return the answer if the mode of a file of /proc/PID forbids writing it."""
    return _refused_by_mode(name, "write", "DAC_OVERRIDE")


def _refused_by_mode(name: str, access: str, capability: str) -> Answer:
    return refusal(
        "capability",
        errno.EACCES,
        f"only the owner of a process may {access} its /proc/PID/{name}, even with "
        f"permission to ptrace the process, and CAP_{capability} is missing",
        f"run as its user or as root, or {how_to_add(capability)}",
    )


def huge_pages_disabled() -> Answer:
    """Return the answer if a process may have no huge pages, by prctl(2)."""
    return refusal(
        "process",
        errno.EINVAL,
        "transparent huge pages are disabled for the process: it or its parent called "
        "prctl(PR_SET_THP_DISABLE)",
        "let it call prctl(PR_SET_THP_DISABLE, 0); Linux 6.18 has "
        "PR_THP_DISABLE_EXCEPT_ADVISED",
    )


def no_memory(why: str) -> Answer:
    """Return the answer if a process has no address space.

    Args:
        why: The reason, from no_mm() in _proc.pidfds.
    """
    by = "exited" if why == "the process has exited" else "memory"
    return refusal(by, errno.ESRCH, why)


def of_proc_file(proc: int, name: str, number: int) -> Answer:
    """Return the answer to an errno on opening or reading a file of /proc/PID.

    Args:
        proc: File descriptor of the directory.
        name: Of the file.
        number: The kernel's errno.
    """
    if number in (errno.ENOENT, errno.ESRCH):
        return no_memory("the process has exited")
    if number in (errno.EACCES, errno.EPERM):
        # Opening maps needs only ptrace read access, as its mode lets everybody read:
        # if maps opens and this file does not, the mode forbids this file.
        by_mode = name != "maps" and _may_open(proc, "maps")
        if not by_mode:
            return no_ptrace(proc, number)
        written = name == "clear_refs"
        return no_dac_override(name) if written else no_dac_read_search(name)
    return refusal("kernel", number, f"/proc/PID/{name} can't be read")


def _may_open(proc: int, name: str) -> bool:
    try:
        Descriptor.open(name, proc).close()
    except own(OSError):
        return False
    return True
