"""Checks of hold(): each method, by the steps that a held process makes."""

from __future__ import annotations

import time

import pmadvise
from pmadvise._proc.rights import proc_is_of_own_namespace
from pmadvise._support import host
from pmadvise.selftest.child import Child
from pmadvise.selftest.requirements import Skip
from pmadvise.selftest.tools import cgroup_for

_STEPS = 50
_YAMA_ADMIN_ONLY = 2  # Documentation/admin-guide/LSM/Yama.rst


def _check_hold(child: Child, method: str) -> str:
    """Hold a child: it makes no step while another one does."""
    if not proc_is_of_own_namespace():
        raise Skip(
            "/proc shows another pid namespace, where no process can be held: "
            "mount -t proc proc /proc"
        )
    with Child() as witness:
        witness.ask("count")
        child.ask("count")

        def goes_on(one: Child) -> None:
            before, deadline = one.steps(), time.monotonic() + 60
            while one.steps() < before + _STEPS:
                if time.monotonic() > deadline:
                    raise AssertionError(f"process {one.pid} does not run on")
                time.sleep(0.001)

        goes_on(child)
        with child.process.hold(method, timeout=30) as held:
            before = child.steps()
            goes_on(witness)
            after = child.steps()
        if after != before or held.broken or held.method != method:
            raise AssertionError(
                f"{after - before} steps while held by {held.method}: {held.broken}"
            )
        goes_on(child)
    return f"no step in {_STEPS} of another process, and it runs on"


def check_hold_ptrace(_size: int) -> str:
    """Hold a child by ptrace."""
    with Child() as child:
        try:
            return _check_hold(child, "ptrace")
        except PermissionError as error:
            scope = host.ptrace_scope() or 0
            if scope >= _YAMA_ADMIN_ONLY:
                remedy = f"kernel.yama.ptrace_scope is {scope}: sysctl it to 0 or 1"
            elif pmadvise.support().seccomp == "filter":
                remedy = "a seccomp filter may refuse ptrace: add CAP_SYS_PTRACE"
            else:
                raise
            raise Skip(f"{error.strerror}: {remedy}") from None


def check_hold_freezer(_size: int) -> str:
    """Hold a child by the freezer of a cgroup of its own."""
    found = host.freezer_directories()
    if not found:
        raise Skip(
            "no cgroup freezer is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        )
    version, directory = found[0]  # the one that hold() takes: version 2 before 1
    with (
        Child() as child,
        cgroup_for(child.pid, directory, "pmadvise-selftest"),
    ):
        seen = _check_hold(child, "freezer")
    return f"cgroup v{version}: {seen}"


def check_hold_sigstop(_size: int) -> str:
    """Hold a child by SIGSTOP."""
    with Child() as child:
        return _check_hold(child, "sigstop")
