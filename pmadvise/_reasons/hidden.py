"""Reasons of what can't be seen: /proc, the swap space, pressure, a cgroup."""

from __future__ import annotations

import errno
import os

from pmadvise._proc.cgroup_tree import PATH_CUT
from pmadvise._proc.files import exists, parse_kb_fields, read_or_none
from pmadvise._proc.rights import proc_is_mounted, proc_is_of_own_namespace
from pmadvise._reasons.answer import UNCONFINED, Answer, errno_name, refusal

_MOUNT_PROC = "mount -t proc proc /proc, in this pid namespace"


def no_proc() -> Answer | None:
    """Return the answer if /proc does not show this pid namespace; None if it does."""
    if proc_is_of_own_namespace():
        return None
    if proc_is_mounted():
        reason = (
            "/proc is that of another pid namespace, where an ID is another process's"
        )
    else:
        reason = "/proc is not mounted"
    return refusal("proc", errno.EACCES, reason, _MOUNT_PROC)


def hidden() -> Answer:
    """Return the answer if the directory /proc/PID of a process is hidden."""
    proc = no_proc()
    return refusal(
        "proc",
        errno.EACCES,
        "/proc/PID of the process is hidden: "
        + ("/proc is mounted with hidepid" if proc is None else proc.reason),
        "run as root, or mount /proc without hidepid and for this namespace",
    )


def foreign() -> Answer:
    """Return the answer if processes are of a pid namespace that is not seen here."""
    return refusal(
        "proc",
        errno.ESRCH,
        "some of its processes are of a pid namespace that this one does not see",
        "run in the host's pid namespace (docker and podman run --pid=host; "
        "Kubernetes: hostPID: true)",
    )


def no_cgroup(path: bytes, is_mounted: bool) -> Answer:
    """Return the answer if a cgroup has no directory here.

    Args:
        path: Of the cgroup, in /proc/PID/cgroup.
        is_mounted: Whether a part of its hierarchy is mounted here.
    """
    if not is_mounted:
        return refusal(
            "cgroup",
            errno.ENOENT,
            "no file system of its cgroup is mounted here",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup (docker and podman run "
            "-v /sys/fs/cgroup:/sys/fs/cgroup)",
        )
    if len(path) >= PATH_CUT:
        return refusal(
            "cgroup",
            errno.ENAMETOOLONG,
            "the path of its cgroup is longer than the kernel shows",
            "move it to a cgroup that is less deep",
        )
    return refusal(
        "cgroup",
        errno.ENOENT,
        f"its cgroup {os.fsdecode(path[:80])!r} is not in the cgroup file systems that "
        "are mounted here",
        "run with the host's cgroup namespace and /sys/fs/cgroup (docker and podman "
        "run --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup)",
    )


def has_no_swap() -> bool:
    """Return whether /proc lacks swaps as the kernel was built without CONFIG_SWAP.

    A /proc that hides it (subset=pid) hides meminfo too.
    """
    return parse_kb_fields(read_or_none("/proc/meminfo")).get("SwapTotal") == 0


def no_swaps(number: int) -> Answer:
    """Return the answer if /proc/swaps can't be read.

    Args:
        number: The kernel's errno; ENODATA: the file is not what the kernel writes.
    """
    if number == errno.ENODATA:
        reason = "another file covers it"
    elif number != errno.ENOENT:
        reason = f"the kernel refuses to read it ({errno_name(number)})"
    elif proc_is_mounted():
        reason = "/proc is mounted with subset=pid"
    else:
        reason = "/proc is not mounted"
    return refusal(
        "proc",
        number,
        f"the swap space is hidden, not absent: {reason}",
        "mount /proc without subset=pid, and leave /proc/swaps readable "
        "(systemd: ProcSubset=all)",
    )


def no_pressure(path: str, number: int) -> Answer:
    """Return the answer to an errno on opening a pressure file for a trigger.

    Args:
        path: Of the file.
        number: The kernel's errno.
    """
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "the caller may not write it"
        remedy = "run as its owner or as root, with it mounted read-write"
        if path.startswith("/proc/"):  # everybody may, by its mode
            reason = "/proc is mounted read-only, or a security module refuses to write"
            remedy = f"mount /proc read-write, or {UNCONFINED}"
        return refusal("pressure", number, reason, remedy)
    if number not in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENOTDIR):
        return refusal("pressure", number, "it can't be opened")
    directory = os.path.dirname(path)
    if exists(f"{directory}/cgroup.procs"):
        reason, remedy = _no_pressure_of_cgroup(directory)
    elif not path.startswith("/proc/"):
        reason = "there is no such cgroup with a file of PSI"
        remedy = "give memory.pressure of a cgroup v2"
    elif exists("/proc/version") and not exists("/proc/pressure"):
        reason, remedy = _OFF
    else:
        reason = "it is hidden: /proc is not mounted, with subset=pid, or covered"
        remedy = "mount /proc without subset=pid (systemd: ProcSubset=all)"
    return refusal("pressure", number, reason, remedy)


_OFF = (
    "pressure stall information (PSI) is off on this kernel",
    "boot with psi=1 (RHEL and SUSE have it off by default), or run a kernel with "
    "CONFIG_PSI",
)


def _no_pressure_of_cgroup(directory: str) -> tuple[str, str]:
    switch = (read_or_none(f"{directory}/cgroup.pressure") or b"").strip()
    if switch == b"0":
        return (
            "pressure stall information (PSI) is turned off for this cgroup",
            f"write 1 to {directory}/cgroup.pressure",
        )
    if not exists(f"{directory}/cgroup.controllers"):
        return "a cgroup v1 has no pressure files", "use /proc/pressure/memory"
    return _OFF
