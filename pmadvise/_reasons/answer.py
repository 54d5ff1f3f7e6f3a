"""Answers: yes, or no with the refusing check, the reason and the remedy."""

from __future__ import annotations

import errno
import os

from pmadvise._record import record


@record
class Answer:
    """Whether something is possible, and if not, why: true if it is possible."""

    ok: bool
    refused_by: str = ""
    """The check that refuses: "seccomp", "kernel", "ptrace", "capability", "memory"
    (the process has none), "exited", "process" (its own setting), "proc" (hides it),
    "cgroup" (hidden), "pressure" (off, or no right), "mapping" (of the range),
    "argument", "busy" (somebody else is at it), "descriptors" (none is free),
    "priority" (of the caller), "build" (a wrong number of a system call); "" if
    none."""
    errno: int | None = None
    """The kernel's errno."""
    reason: str = ""
    """The check that refuses, and its cause."""
    remedy: str = ""
    """A remedy; "" if none is known."""

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

# The ways to run without the profile of a security module.
UNCONFINED = (
    "run outside of its profile (AppArmor: docker and podman run "
    "--security-opt apparmor=unconfined; Kubernetes: appArmorProfile.type: Unconfined; "
    "SELinux: --security-opt label=type:spc_t; Kubernetes: seLinuxOptions.type: spc_t)"
)


def refusal(by: str, number: int | None, reason: str = "", remedy: str = "") -> Answer:
    """Return the answer no, with the refusing check, errno, reason and remedy."""
    return Answer(False, by, number, reason, remedy)


def errno_name(number: int) -> str:
    """Return the name of an errno, such as "EPERM"; the number if it has none."""
    return errno.errorcode.get(number, str(number))


def how_to_allow(call: str) -> str:
    """Return the remedy for a seccomp filter that refuses `call`."""
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
    """Return the ways to add a capability, given by its name without CAP_."""
    name = capability.lower()
    return (
        f"add CAP_{capability} (docker run --cap-add={capability}; "
        f"podman run --cap-add={capability}, as root; "
        f'Kubernetes: securityContext.capabilities.add: ["{capability}"]; '
        f"systemd: AmbientCapabilities=CAP_{capability}; "
        f"setpriv: --inh-caps=+{name} --ambient-caps=+{name}; guide: tasks/rights)"
    )
