"""Fixtures: the same test on the running kernel and on one that lacks an ioctl."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.filters import PAGEMAP_SCAN, PROCMAP_QUERY, run_test_without
from helpers.short_memory import small_cgroup_of_its_own
from helpers.targets import Target

from pmadvise import Process, pidfd_open


@pytest.fixture
def own_pidfd() -> Iterator[int]:
    """The pidfd of this process."""
    pidfd = pidfd_open(os.getpid())
    yield pidfd
    os.close(pidfd)


@pytest.fixture(params=["PROCMAP_QUERY", "ENOTTY"])
def with_and_without_procmap_query(request: pytest.FixtureRequest) -> None:
    """Run the test on this kernel, and as on one before Linux 6.11."""
    if request.param == "ENOTTY":
        run_test_without(request.node, PROCMAP_QUERY)


@pytest.fixture(params=["PAGEMAP_SCAN", "entries"])
def with_and_without_pagemap_scan(request: pytest.FixtureRequest) -> str:
    """Run the test on this kernel, and as on one before Linux 6.7."""
    if request.param == "entries":
        run_test_without(request.node, PAGEMAP_SCAN)
    return str(request.param)


@pytest.fixture(params=["all ioctls", "Linux 6.6", "Linux 6.10"])
def ioctls_of_a_release(request: pytest.FixtureRequest) -> str:
    """Run the test with both ioctls, with none, and with PAGEMAP_SCAN alone."""
    lacking = {
        "Linux 6.6": (PROCMAP_QUERY, PAGEMAP_SCAN),
        "Linux 6.10": (PROCMAP_QUERY,),
    }
    if request.param in lacking:
        run_test_without(request.node, *lacking[request.param])
    return str(request.param)


@pytest.fixture
def fork(target: Target) -> Iterator[Process]:
    """A fork of the target, made when the test asks for this fixture."""
    pid = target.run("fork()")
    with Process(pid) as handle:
        yield handle
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A cgroup whose processes may have 32 MiB in memory: of v2, or else of v1."""
    with small_cgroup_of_its_own() as path:
        yield path
