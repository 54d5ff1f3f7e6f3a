"""Names that others choose do not change what the selftest finds."""

from __future__ import annotations

import ctypes
import os

import pytest
from helpers.cgroups import temporary_cgroup
from helpers.names import LIES, SEPARATORS
from helpers.namespaces import mount_tmpfs
from helpers.needs import cgroup_mount
from helpers.selftest_runs import Run, run_with

pytestmark = pytest.mark.needs_root

NAMES = [name for name in (*SEPARATORS, *LIES) if b"/" not in name]
each_name = pytest.mark.parametrize("name", NAMES, ids=[repr(one) for one in NAMES])
CHECKS = "host,permission,maps,resident,cold,errors,locked,hold_freezer"
PR_SET_NAME = 15


def require_unchanged(done: Run) -> None:
    """Fail unless every check passed that can."""
    assert (done.status, done.failed) == (0, {})
    assert set(done.skipped) <= {"hold_freezer"}


@each_name
def test_mount_point(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    """A mount point of any name is no obstacle."""
    directory = os.fsencode(tmp_path_factory.mktemp("mounts"))
    point = os.path.join(directory, b"a" + name + b"b")
    os.mkdir(point)
    require_unchanged(run_with(lambda: mount_tmpfs(point), "--only", CHECKS))


@each_name
def test_own_name(name: bytes) -> None:
    """A selftest of any name finds its children's memory."""

    def rename() -> None:
        assert ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0) == 0

    require_unchanged(run_with(rename, "--only", f"{CHECKS},pageout_file"))


@pytest.mark.needs_cgroup2
@each_name
def test_cgroup(name: bytes) -> None:
    """In a cgroup of any name a child can be frozen."""
    mount = cgroup_mount(2)
    assert mount is not None
    with temporary_cgroup(mount, name) as cgroup:
        done = run_with(cgroup.join, "--only", CHECKS)
    require_unchanged(done)
    assert "hold_freezer" in done.passed


@each_name
def test_folder_for_files(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    name: bytes,
) -> None:
    """A mapped file in a folder of any name is found."""
    directory = os.path.join(os.fsencode(tmp_path_factory.mktemp("files")), b"a" + name)
    os.mkdir(directory)
    monkeypatch.setattr("tempfile.tempdir", os.fsdecode(directory))
    require_unchanged(run_with(lambda: None, "--only", "pageout_file,willneed"))
