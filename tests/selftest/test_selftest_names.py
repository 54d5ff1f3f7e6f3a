"""Names that others choose do not change what the selftest finds."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
from helpers.cgroups import temporary_cgroup
from helpers.names import LIES, SEPARATORS
from helpers.namespaces import mount_tmpfs
from helpers.needs import SWAP_NEEDED, cgroup_mount, free_swap
from helpers.selftest_runs import Run, run_with

pytestmark = pytest.mark.needs_root

NAMES = [name for name in (*SEPARATORS, *LIES) if b"/" not in name]
each_name = pytest.mark.parametrize("name", NAMES, ids=[repr(name) for name in NAMES])
CHECKS = "host,permission,resident,locked,hold_freezer"
SWAP = ("pageout", "willneed")  # these need swap, or parts of them do
PR_SET_NAME = 15


def require_unchanged(done: Run) -> None:
    """Fail unless every check passed that can."""
    assert (done.status, done.failed) == (0, {})
    lacking = (
        {"hold_freezer"} if free_swap() >= SWAP_NEEDED else {"hold_freezer", *SWAP}
    )
    assert set(done.skipped) <= lacking


def test_mount_points(tmp_path: Path) -> None:
    """Mount points of any name are no obstacle."""
    points = [os.path.join(os.fsencode(tmp_path), b"a" + name + b"b") for name in NAMES]
    for point in points:
        os.mkdir(point)

    def mount() -> None:
        for point in points:
            mount_tmpfs(point)

    require_unchanged(run_with(mount))


@each_name
def test_own_name(name: bytes) -> None:
    """A selftest of any name finds its children's memory."""

    def rename() -> None:
        assert ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0) == 0

    require_unchanged(run_with(rename, "--only", f"{CHECKS},pageout_file,hold_sigstop"))


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
    require_unchanged(run_with(lambda: None, "--only", "pageout_file"))
