"""What /proc and /sys say of this host and this process, for support()."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pmadvise import residency

# include/uapi/linux/capability.h, by number.
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
    "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK "
    "IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT "
    "SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE "
    "AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND "
    "AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
# Inode numbers of the initial namespaces: include/uapi/linux/nsfs.h, proc_ns.h.
_INITIAL = {"user": 0xEFFFFFFD, "pid": 0xEFFFFFFC}
_THP = "/sys/kernel/mm/transparent_hugepage"


def text_of(path: str) -> str | None:
    """Return the contents of a file of /proc or /sys, None if it can't be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return (file.readall() or b"").decode("utf-8", "surrogateescape")
    except OSError:
        return None


def status(text: bytes | str | None) -> dict[str, str]:
    """Return the lines "Name: value" of a file of /proc."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    lines = (line.partition(":") for line in (text or "").splitlines())
    return {name: value.strip() for name, _, value in lines}


def own_status() -> dict[str, str]:
    """Return /proc/thread-self/status: rights and filters are a thread's."""
    return status(text_of("/proc/thread-self/status"))


def capability_names(mask: str) -> frozenset[str]:
    """Return the names of the capabilities in a mask of status."""
    bits, known = int(mask or "0", 16), _CAPABILITIES.split()
    return frozenset(
        f"CAP_{known[bit] if bit < len(known) else bit}"
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    )


def capabilities() -> frozenset[str]:
    """Return the capabilities in the effective set of this thread."""
    return capability_names(own_status().get("CapEff", ""))


@dataclass(frozen=True, slots=True)
class Filter:
    """Whether system calls of this thread are filtered, seccomp(2)."""

    mode: str | None
    """"disabled", "strict" or "filter"; None where that can't be told."""
    counted: bool
    """Whether status has Seccomp_filters, which is as old as process_madvise(2)."""

    @classmethod
    def of_this_thread(cls) -> Filter:
        """Read it from /proc."""
        found = own_status()
        modes = {"0": "disabled", "1": "strict", "2": "filter"}
        mode = modes.get(found.get("Seccomp", ""))
        if mode is None and found and "Seccomp" not in found:
            mode = "disabled"  # built without CONFIG_SECCOMP
        return cls(mode, "Seccomp_filters" in found)

    def hides(self) -> bool:
        """Tell whether a filter, not an old kernel, answers ENOSYS, as far as one can.

        The line Seccomp_filters came with Linux 5.10, commit c818c03b661c ("seccomp:
        Report number of loaded filters in /proc/$pid/status"), process_madvise(2) with
        the same release, pidfd_open(2) before.
        """
        return self.mode == "filter" and self.counted


def how_to_allow(call: str) -> str:
    """Say how a seccomp filter is made to let `call` through."""
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
    """Say how a capability, its name without CAP_, is added."""
    return (
        f"add CAP_{capability} (docker run --cap-add={capability}; "
        f"podman run --cap-add={capability}, as root; "
        f'Kubernetes: securityContext.capabilities.add: ["{capability}"]; '
        f"systemd: AmbientCapabilities=CAP_{capability})"
    )


def initial_namespace(kind: str) -> bool | None:
    """Tell whether this process is in the initial "user" or "pid" namespace."""
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino == _INITIAL[kind]
    except FileNotFoundError:
        # Built without such namespaces, so there is one alone; or no /proc.
        return True if os.path.exists("/proc/self/ns") else None
    except OSError:
        return None


def proc_is_of_own_namespace() -> bool:
    """Tell whether /proc counts processes as this one's pid namespace does."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def container() -> str:
    """Return what manages the container that this runs in; "" where none is seen."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    named = os.environ.get("container")  # noqa: SIM112, as systemd and podman set it
    named = named or text_of("/run/systemd/container")
    if named:
        return named.strip()
    for path, name in (("/run/.containerenv", "podman"), ("/.dockerenv", "docker")):
        if os.path.exists(path):
            return name
    for path, name in (
        ("kubepods", "kubernetes"),
        ("libpod", "podman"),
        ("docker", "docker"),
        ("lxc", "lxc"),
    ):
        if path in (text_of("/proc/self/cgroup") or ""):
            return name
    return ""


def huge_page_size() -> int | None:
    """Return the bytes of a transparent huge page; None without them."""
    text = text_of(f"{_THP}/hpage_pmd_size")
    return int(text) if text and text.strip().isdigit() else None


def swap() -> tuple[int, int]:
    """Return the bytes of swap in all, and free."""
    found = residency.sizes((text_of("/proc/meminfo") or "").encode())
    return found.get("SwapTotal", 0), found.get("SwapFree", 0)


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Where the cgroup of this process is to be seen, in one hierarchy."""

    version: int
    controllers: tuple[str, ...]
    mount: str
    path: str
    """Below the mount; the mount itself where it lies outside."""


def cgroups() -> list[Cgroup]:
    """Return the cgroups of this process, by the mounts of their hierarchies."""
    own: dict[tuple[int, str], str] = {}
    for line in (text_of("/proc/self/cgroup") or "").splitlines():
        number, names, path = line.split(":", 2)
        for name in names.split(","):
            own[2 if number == "0" else 1, name] = path
    found = []
    for line in (text_of("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind == "cgroup2" else 1
        has = ("",) if version == 2 else tuple(options.split(","))
        path = next((own[version, one] for one in has if (version, one) in own), "/")
        root, mount = (_unescape(field) for field in before.split(" ")[3:5])
        below = os.path.relpath(path, root)
        inside = mount if below.startswith("..") else os.path.join(mount, below)
        found.append(Cgroup(version, has, mount, os.path.normpath(inside)))
    return found


def _unescape(field: str) -> str:
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), field)


def freezers() -> tuple[str, ...]:
    """Return the hierarchies that can freeze, and that may be written to."""
    found = []
    for cgroup in cgroups():
        if cgroup.version == 2 or "freezer" in cgroup.controllers:
            paths = (cgroup.path, cgroup.mount)
            if any(os.access(path, os.W_OK, effective_ids=True) for path in paths):
                found.append(f"cgroup{cgroup.version}")
    return tuple(dict.fromkeys(found))


def swap_allowed() -> int | None:
    """Return the bytes that this cgroup may still swap; None without a limit."""
    allowed: list[int] = []
    for cgroup in cgroups():
        path = cgroup.path
        while cgroup.version == 2 and path.startswith(cgroup.mount):
            most = (text_of(f"{path}/memory.swap.max") or "max").strip()
            used = (text_of(f"{path}/memory.swap.current") or "0").strip()
            if most != "max":
                allowed.append(max(int(most) - int(used), 0))
            path = os.path.dirname(path)
    return min(allowed, default=None)


def ptrace_scope() -> int | None:
    """Return Yama's ptrace_scope; None without Yama."""
    text = text_of("/proc/sys/kernel/yama/ptrace_scope")
    return int(text) if text else None


def why_no_ptrace(
    theirs: Mapping[str, str], shown_owner: int | None
) -> tuple[str, str | None]:
    """Tell what refuses ptrace read access, as __ptrace_may_access() goes about it.

    Args:
        theirs: status of the target.
        shown_owner: User that owns its /proc/PID/maps; None if not known.

    Returns:
        The reason, and what would mend it beside CAP_SYS_PTRACE; None for the latter
        where CAP_SYS_PTRACE would not.
    """
    own = own_status()
    if "Uid" not in theirs or "Uid" not in own:
        return "it is another user's, or hidden", ""
    modules = (text_of("/sys/kernel/security/lsm") or "").strip()
    module = f"a security module refuses{f' (there are {modules})' if modules else ''}"
    effective = capability_names(own.get("CapEff", ""))
    if "CAP_SYS_PTRACE" in effective and initial_namespace("user"):
        return f"{module}, or a sandbox, though CAP_SYS_PTRACE is there", None
    for name, what in (("Uid", "user"), ("Gid", "group")):
        mine = own[name].split()[3]
        ids = theirs[name].split()[:3]
        if set(ids) != {mine}:
            whose = "/".join(dict.fromkeys(ids))
            return (
                f"it is another {what}'s ({name.lower()} {whose}, the caller's is "
                f"{mine})",
                f"run as its {what}",
            )
    if shown_owner is not None and str(shown_owner) != theirs["Uid"].split()[1]:
        return (
            "it is not dumpable (prctl(2) PR_SET_DUMPABLE; so is one that has changed "
            "its user, or whose program may not be read)",
            "have it set PR_SET_DUMPABLE",
        )
    more = capability_names(theirs.get("CapPrm", "")) - effective
    if more:
        return f"it has capabilities that the caller lacks ({_some(more)})", ""
    return f"it is not dumpable, or of another user namespace, or {module}", ""


def _some(names: frozenset[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (", ..." if len(names) > 3 else "")
