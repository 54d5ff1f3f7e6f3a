"""Names that others choose change no answer of support()."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from dataclasses import replace

import pytest
from helpers.cgroups import temporary_cgroup
from helpers.children import value_of_child
from helpers.names import LIES, SEPARATORS, failing
from helpers.namespaces import mount_tmpfs
from helpers.needs import cgroup_mount
from helpers.targets import PAGE, Target

from pmadvise import Process, Support, support

NAMES = [name for name in (*SEPARATORS, *LIES) if b"/" not in name]
PR_SET_NAME = 15


def lasting(answer: Support) -> Support:
    """Return an answer without what changes by itself."""
    return replace(answer, swap_free=0, memory_limit=None)


def set_name(name: bytes) -> None:
    """Set the name of the calling thread, as /proc/PID/comm has it."""
    assert ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0) == 0


@pytest.mark.needs_root
@pytest.mark.needs_mounts
def test_mount_points(target: Target) -> None:
    """Mount points of any names change nothing."""
    with tempfile.TemporaryDirectory() as directory:

        def mounted(name: bytes) -> Support:
            point = os.path.join(directory.encode(), b"a" + name + b"b")
            os.mkdir(point)
            mount_tmpfs(point)
            try:
                return lasting(support(target.pid))
            finally:
                assert ctypes.CDLL(None).umount(point) == 0

        wanted = lasting(support(target.pid))
        assert value_of_child(lambda: failing(NAMES, mounted, wanted)) == {}


def test_own_name(target: Target) -> None:
    """A caller of any name has the rights that it has."""

    def renamed(name: bytes) -> Support:
        set_name(name)
        return lasting(support(target.pid))

    wanted = lasting(support(target.pid))
    assert value_of_child(lambda: failing(NAMES, renamed, wanted)) == {}


def test_name_of_a_target(target: Target) -> None:
    """A target of any name may be advised as before."""

    def renamed(name: bytes) -> Support:
        target.run(f"prctl(PR_SET_NAME, {name!r})")
        return lasting(support(target.pid))

    wanted = lasting(support(target.pid))
    assert failing(NAMES, renamed, wanted) == {}


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_cgroups(target: Target) -> None:
    """A cgroup of any name can freeze, and its limits are read."""
    mount = cgroup_mount(2)
    assert mount is not None
    with contextlib.ExitStack() as stack:
        cgroups = {
            name: stack.enter_context(temporary_cgroup(mount, name)) for name in NAMES
        }

        def inside(name: bytes) -> tuple[bool, Support]:
            cgroups[name].join()
            answer = support(target.pid)
            lasts = lasting(replace(answer, freezers=(), swap_allowed=None))
            return "cgroup2" in answer.freezers, lasts

        outside = lasting(replace(support(target.pid), freezers=(), swap_allowed=None))
        wanted = (True, outside)
        assert value_of_child(lambda: failing(NAMES, inside, wanted)) == {}


@pytest.mark.needs_root
def test_memfds(target: Target) -> None:
    """A target that maps and locks memory of files of any name may be advised."""

    def locked(name: bytes) -> tuple[bool, bool]:
        fd = target.run(f"memfd({name!r}, {PAGE})")
        address = target.run(f"map({PAGE}, fd={fd}, flags=SHARED)")
        target.run(f"lock({address}, {PAGE})")
        with Process(target.pid) as process:
            answer = support(process).target
        target.run(f"unmap({address}, {PAGE})")
        assert answer is not None
        return bool(answer.may), bool(answer.pages)

    assert failing(NAMES, locked, (True, True)) == {}
