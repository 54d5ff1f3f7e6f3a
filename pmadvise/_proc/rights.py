"""Rights of the calling thread: capabilities, seccomp, namespaces."""

from __future__ import annotations

import os

from pmadvise._origin import own
from pmadvise._proc.files import exists, fields, read_or_none

# include/uapi/linux/capability.h, by number.
_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
# Inode numbers of the initial namespaces: include/uapi/linux/nsfs.h, proc_ns.h.
_INITIAL = {"user": 0xEFFFFFFD, "pid": 0xEFFFFFFC, "cgroup": 0xEFFFFFFB}


def own_status() -> dict[str, bytes]:
    """Return /proc/thread-self/status: rights and filters are a thread's."""
    return fields(read_or_none("/proc/thread-self/status"))


def capability_names(mask: bytes) -> frozenset[str]:
    """Return the names of the capabilities in a mask of status."""
    bits = int(mask or b"0", 16)
    return frozenset(
        f"CAP_{_CAPABILITIES[bit] if bit < len(_CAPABILITIES) else bit}"
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    )


def capabilities() -> frozenset[str]:
    """Return the capabilities in the effective set of this thread."""
    return capability_names(own_status().get("CapEff", b""))


class Seccomp:
    """Whether system calls of this thread are filtered, seccomp(2).

    Args:
        mode: "disabled", "strict" or "filter"; None if that can't be read.
        has_filter_count: Whether status has Seccomp_filters, added in the release of
            process_madvise(2).
    """

    __slots__ = ("has_filter_count", "mode")

    def __init__(self, mode: str | None, has_filter_count: bool) -> None:
        self.mode, self.has_filter_count = mode, has_filter_count

    @classmethod
    def of_this_thread(cls) -> Seccomp:
        """Return the state of the calling thread, from /proc."""
        status = own_status()
        modes = {b"0": "disabled", b"1": "strict", b"2": "filter"}
        mode = modes.get(status.get("Seccomp", b""))
        if mode is None and status and "Seccomp" not in status:
            mode = "disabled"  # built without CONFIG_SECCOMP
        return cls(mode, "Seccomp_filters" in status)

    def may_fake_enosys(self) -> bool:
        """Return whether ENOSYS is from a filter, and not from an old kernel.

        The line Seccomp_filters came with Linux 5.10, commit c818c03b661c ("seccomp:
        Report number of loaded filters in /proc/$pid/status"), process_madvise(2) with
        the same release, pidfd_open(2) before.
        """
        return self.mode == "filter" and self.has_filter_count


def initial_namespace(kind: str) -> bool | None:
    """Return whether this is the initial "user", "pid" or "cgroup" namespace."""
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino == _INITIAL[kind]
    except own(FileNotFoundError):
        # Built without such namespaces, so only the initial one exists; or no /proc.
        return True if exists("/proc/self/ns") else None
    except own(OSError):
        return None


def proc_is_mounted() -> bool:
    """Return whether /proc is mounted, for any pid namespace and with any options."""
    return exists("/proc/self", follow_symlinks=False)


def proc_is_of_own_namespace() -> bool:
    """Return whether /proc is of the pid namespace of this process."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except own(OSError):
        return False
