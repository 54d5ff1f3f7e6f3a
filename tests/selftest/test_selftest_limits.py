"""The selftest with little memory, and with few file descriptors."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator

import pytest
from helpers.cgroups import Cgroup, memory_cgroup
from helpers.selftest_runs import Run, run, run_here, run_with
from helpers.targets import MIB

from pmadvise.selftest import child

pytestmark = pytest.mark.needs_root

LIMIT = 48 * MIB


@pytest.fixture
def small_cgroup() -> Iterator[Cgroup]:
    """A cgroup of 48 MiB."""
    with memory_cgroup(LIMIT) as cgroup:
        yield cgroup


def test_small_memory_cgroup(small_cgroup: Cgroup) -> None:
    """The limit of a memory cgroup is named, and the --size that fits."""
    done = run("--only", "host,cold,pageout,errors", preexec_fn=small_cgroup.join)
    assert (done.failed, set(done.skipped)) == ({}, {"cold", "pageout"})
    assert "this memory cgroup may use 48 MiB" in done.skipped["cold"]
    assert "or pass --size " in done.skipped["cold"]
    assert "in a memory cgroup of 48 MiB" in done.checks["host"][1]


def test_size_that_fits(small_cgroup: Cgroup) -> None:
    """With the --size that was named the check passes."""
    first = run("--only", "cold", preexec_fn=small_cgroup.join)
    size = first.skipped["cold"].rpartition("--size ")[2]
    again = run("--only", "cold", "--size", size, preexec_fn=small_cgroup.join)
    assert again.passed == {"cold"}


def test_main_job_in_a_small_memory_cgroup(small_cgroup: Cgroup) -> None:
    """Little memory is no obstacle to the main job."""
    done = run("--only", "host", preexec_fn=small_cgroup.join)
    assert (done.status, "can advise another process" in done.verdict) == (0, True)


def test_killed_for_memory(
    small_cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that the kernel kills for want of memory differs from one that dies."""
    monkeypatch.setattr(child, "require_memory", lambda size: None)

    done = run_with(small_cgroup.join, "--only", "cold", "--size", "64")
    assert "the kernel killed the child" in done.skipped["cold"]
    assert "48 MiB" in done.skipped["cold"]


def limited_to(files: int) -> Callable[[], None]:
    """Return what limits the calling process to so many files."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    return limit


def run_with_files(files: int) -> Run:
    """Run the selftest with so many file descriptors."""
    return run("--size", "4", preexec_fn=limited_to(files))


def test_sixteen_descriptors() -> None:
    """With 16 descriptors nothing fails; a check that needs more names the limit."""
    done = run_with_files(16)
    assert done.failed == {}
    few = [why for why in done.skipped.values() if "may open 16 files" in why]
    assert few != []
    assert "raise RLIMIT_NOFILE (ulimit -n 64" in few[0]


@pytest.mark.parametrize("files", range(5, 16))
def test_fewer_descriptors(files: int) -> None:
    """However few there are nothing fails, and the status is that of the verdict."""
    done = run_with_files(files)
    assert done.failed == {}
    can = " can advise another process" in done.verdict
    assert done.status == (0 if can else 1)
    assert can or f"may open {files} files" in done.verdict


def test_descriptors_that_run_out_later() -> None:
    """Checks close what they opened where descriptors run out half-way."""

    def crowd() -> None:
        used = len(os.listdir("/proc/self/fd"))
        limited_to(used + 5)()

    done = run_with(crowd, "--only", "host,stranger,cold")
    assert done.failed == {}
    assert "RLIMIT_NOFILE" in done.skipped["stranger"]


def test_enough_descriptors() -> None:
    """With enough descriptors they are not mentioned."""
    done = run_here("--only", "host", "--size", "4")
    assert "RLIMIT_NOFILE" not in done.output
