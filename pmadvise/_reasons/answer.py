"""An answer: yes, or who refuses, why, and the remedy."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether something can be done, and if not, why: true where it can."""

    ok: bool
    refused_by: str = ""
    """The check that refuses: "seccomp", "kernel", "ptrace", "capability", "memory"
    (it has none), "exited", "proc" (its directory in /proc is hidden), "mapping" (of
    the range), "argument", "descriptors" (none is free), "priority" (of the caller),
    "build" (a wrong number of a system call); "" if none."""
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


def refusal(by: str, number: int | None, reason: str = "", remedy: str = "") -> Answer:
    """Return the answer no: who refuses, errno, reason and remedy."""
    return Answer(False, by, number, reason, remedy)


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
