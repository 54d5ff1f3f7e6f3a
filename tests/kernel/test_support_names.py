"""Names that others choose change no answer of support()."""

from __future__ import annotations

import ctypes
import os
import tempfile
from dataclasses import replace

import pytest
from helpers.cgroups import temporary_cgroup
from helpers.children import value_of_child
from helpers.names import LIES, SEPARATORS
from helpers.namespaces import mount_tmpfs
from helpers.needs import cgroup_mount
from helpers.targets import PAGE, Target

from pmadvise import Process, Support, support

NAMES = [name for name in (*SEPARATORS, *LIES) if b"/" not in name]
each_name = pytest.mark.parametrize("name", NAMES, ids=[repr(one) for one in NAMES])
PR_SET_NAME = 15


def lasting(found: Support) -> Support:
    """Return an answer without what changes by itself."""
    return replace(found, swap_free=0, memory_limit=None)


def set_name(name: bytes) -> None:
    """Set the name of the calling thread, as /proc/PID/comm has it."""
    assert ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0) == 0


@each_name
@pytest.mark.needs_root
def test_mount_point(target: Target, name: bytes) -> None:
    """A mount point of any name changes nothing."""
    with tempfile.TemporaryDirectory() as directory:
        point = os.path.join(directory.encode(), b"a" + name + b"b")
        os.mkdir(point)

        def mounted() -> Support:
            mount_tmpfs(point)
            return support(target.pid)

        assert lasting(value_of_child(mounted)) == lasting(support(target.pid))


@each_name
def test_own_name(target: Target, name: bytes) -> None:
    """A caller of any name has the rights that it has."""

    def renamed() -> Support:
        set_name(name)
        return support(target.pid)

    assert lasting(value_of_child(renamed)) == lasting(support(target.pid))


@each_name
def test_name_of_a_target(target: Target, name: bytes) -> None:
    """A target of any name may be advised as before."""
    before = lasting(support(target.pid))
    target.run(f"prctl(PR_SET_NAME, {name!r})")
    assert lasting(support(target.pid)) == before


@each_name
@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_cgroup(target: Target, name: bytes) -> None:
    """A cgroup of any name can freeze, and its limits are read."""
    mount = cgroup_mount(2)
    assert mount is not None
    with temporary_cgroup(mount, name) as cgroup:

        def inside() -> Support:
            cgroup.join()
            return support(target.pid)

        found = value_of_child(inside)
    assert "cgroup2" in found.freezers
    assert lasting(replace(found, freezers=(), swap_allowed=None)) == lasting(
        replace(support(target.pid), freezers=(), swap_allowed=None)
    )


@each_name
@pytest.mark.needs_root
def test_memfd(target: Target, name: bytes) -> None:
    """A target that maps and locks memory of a file of any name may be advised."""
    fd = target.run(f"os.memfd_create({name!r}, 0)")
    target.run(f"os.ftruncate({fd}, {PAGE})")
    address = target.run(f"map({PAGE}, fd={fd}, flags=SHARED)")
    target.run(f"lock({address}, {PAGE})")
    with Process(target.pid) as process:
        found = support(process).target
        assert found is not None
        assert (bool(found.may), bool(found.pages)) == (True, True)
