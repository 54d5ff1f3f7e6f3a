"""Reasons of a missing pressure file, and of COLLAPSE, as other kernels have them."""

from __future__ import annotations

import errno
import os
from importlib import import_module

import pytest
from helpers.fake_files import give_files
from helpers.privileges import CAP_SYS_PTRACE

from pmadvise import Advice
from pmadvise._reasons import access, no_pressure, of_range

HOST = "/proc/pressure/memory"
GROUP = "/cg/a/memory.pressure"


@pytest.mark.parametrize(
    ("path", "existing", "switch", "reason", "remedy"),
    [
        (HOST, {"/proc/version"}, None, "is off on this kernel", "boot with psi=1"),
        (HOST, set(), None, "hidden", "without subset=pid"),
        (HOST, {"/proc/version", "/proc/pressure"}, None, "hidden", "without subset"),
        (
            GROUP,
            {"/cg/a/cgroup.procs", "/cg/a/cgroup.controllers"},
            None,
            "is off on this kernel",
            "boot with psi=1",
        ),
        (
            GROUP,
            {"/cg/a/cgroup.procs", "/cg/a/cgroup.controllers"},
            b"0\n",
            "turned off for this cgroup",
            "write 1 to /cg/a/cgroup.pressure",
        ),
        (GROUP, {"/cg/a/cgroup.procs"}, None, "cgroup v1", HOST),
        (GROUP, {"/cg"}, None, "no such cgroup", "cgroup v2"),
    ],
)
def test_no_pressure_file(
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    existing: set[str],
    switch: bytes | None,
    reason: str,
    remedy: str,
) -> None:
    """Off on the kernel, off for the cgroup, hidden and wrong are told apart."""
    module = import_module("pmadvise._reasons.hidden")  # a function has this name too
    monkeypatch.setattr(module, "exists", lambda path: path in existing)
    give_files(monkeypatch, {} if switch is None else {"/cg/a/cgroup.pressure": switch})
    answer = no_pressure(path, errno.ENOENT)
    assert (reason in answer.reason, remedy in answer.remedy) == (True, True)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
@pytest.mark.parametrize(
    ("path", "reason", "remedy"),
    [
        (GROUP, "the caller may not write it", "run as its owner or as root"),
        (HOST, "a security module refuses", "--security-opt apparmor=unconfined"),
    ],
)
def test_pressure_that_may_not_be_written(
    number: int, path: str, reason: str, remedy: str
) -> None:
    """A refusal is no absence, and everybody may write the host's file by its mode."""
    answer = no_pressure(path, number)
    assert answer.errno == number
    assert (reason in answer.reason, remedy in answer.remedy) == (True, True)


def test_ptrace_that_a_profile_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the capability is there, the profile is named, and how to do without it."""
    own = {
        "Uid": b"0 0 0 0",
        "Gid": b"0 0 0 0",
        "CapEff": b"%x" % (1 << CAP_SYS_PTRACE),
    }
    monkeypatch.setattr(access, "own_status", lambda: own)
    monkeypatch.setattr(access, "initial_namespace", lambda kind: True)
    proc = os.open("/proc/self", os.O_PATH)
    try:
        answer = access.no_ptrace(proc)
    finally:
        os.close(proc)
    assert (answer.refused_by, answer.errno) == ("ptrace", errno.EACCES)
    assert "although the caller has CAP_SYS_PTRACE" in answer.reason
    for words in ("apparmor=unconfined", "appArmorProfile", "SELinux"):
        assert words in answer.remedy


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EAGAIN, "of a file and not yet written"),
        (errno.EBUSY, "never touched"),
        (errno.EINVAL, "PR_SET_THP_DISABLE"),
    ],
)
def test_reasons_of_collapse(number: int, words: str) -> None:
    """The causes of newer kernels are named."""
    assert words in of_range(Advice.COLLAPSE, number)
