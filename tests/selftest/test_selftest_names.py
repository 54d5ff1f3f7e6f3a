"""Names that others choose do not change what the selftest finds."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import pytest
from helpers.cgroups import temporary_cgroup
from helpers.children import value_of_child
from helpers.names import LIES, SEPARATORS, all_at_once, failing, joined
from helpers.namespaces import mount_tmpfs
from helpers.needs import SWAP_NEEDED, cgroup_mount, free_swap
from helpers.selftest_runs import Run, run_here, run_with

pytestmark = pytest.mark.needs_root

NAMES = [name for name in (*SEPARATORS, *LIES) if b"/" not in name]
CHECKS = "host,permission,resident,locked,hold_freezer"
SWAP = ("pageout", "willneed")  # these need swap, or parts of them do
PR_SET_NAME, TASK_COMM_LEN = 15, 16


def require_unchanged(done: Run) -> None:
    """Fail unless every check passed that can."""
    assert (done.status, done.failed) == (0, {})
    lacking = (
        {"hold_freezer"} if free_swap() >= SWAP_NEEDED else {"hold_freezer", *SWAP}
    )
    assert set(done.skipped) <= lacking


@pytest.mark.needs_mounts
def test_mount_points(tmp_path: Path) -> None:
    """Mount points of any names are no obstacle."""

    def check(names: list[bytes]) -> None:
        points = [os.path.join(os.fsencode(tmp_path), b"a" + x + b"b") for x in names]
        for point in points:
            os.makedirs(point, exist_ok=True)

        def mount() -> None:
            for point in points:
                mount_tmpfs(point)

        require_unchanged(run_with(mount))

    all_at_once(NAMES, check)


@pytest.mark.slow
def test_own_name() -> None:
    """A selftest of any name finds its children's memory."""
    checks = f"{CHECKS},pageout_file,hold_sigstop"

    def named(name: bytes) -> None:
        assert ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0) == 0
        require_unchanged(run_here("--size", "4", "--only", checks))

    # in a child, which need not be given its name back
    names = joined(sorted(NAMES, key=len), TASK_COMM_LEN - 1)
    assert value_of_child(lambda: failing(names, named, None)) == {}


@pytest.mark.needs_cgroup2
def test_cgroups() -> None:
    """In a cgroup of any name, below others of any names, a child can be frozen."""
    mount = cgroup_mount(2)
    assert mount is not None

    def check(names: list[bytes]) -> None:
        with contextlib.ExitStack() as stack:
            above: str | os.PathLike[str] = mount
            for name in names:
                cgroup = stack.enter_context(temporary_cgroup(above, name))
                above = os.fsdecode(cgroup.path)
            done = run_with(cgroup.join, "--only", CHECKS)
        require_unchanged(done)
        assert "hold_freezer" in done.passed

    all_at_once(NAMES, check)


def test_folder_for_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mapped file in folders of any names is found."""

    def check(names: list[bytes]) -> None:
        directory = os.fsencode(tmp_path)
        for name in names:
            directory = os.path.join(directory, b"a" + name)
        os.makedirs(directory, exist_ok=True)
        monkeypatch.setattr("tempfile.tempdir", os.fsdecode(directory))
        require_unchanged(run_with(lambda: None, "--only", "pageout_file"))

    all_at_once(NAMES, check)
