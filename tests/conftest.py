"""Fixtures, and what to do where a run lacks what a test needs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from helpers.targets import Target

from pmadvise import Process

# How long an example takes says more of the machine than of what it tests.
hypothesis.settings.register_profile("pmadvise", deadline=None)
hypothesis.settings.register_profile("sanitized", deadline=None, max_examples=20)
hypothesis.settings.register_profile("emulated", deadline=None, max_examples=10)
hypothesis.settings.load_profile("pmadvise")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --strict-kernel."""
    parser.addoption(
        "--strict-kernel",
        action="store_true",
        help="fail a test, rather than skip it, for want of swap, root or cgroups",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C be what it is, also where a script started this in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_swap() -> int:
    """Return the bytes of swap that are free."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("SwapFree:"):
            return int(line.split()[1]) * 1024
    return 0


def _cgroup2() -> bool:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            return os.access(before.split()[4], os.W_OK)
    return False


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this run can't do, saying why; with --strict-kernel, fail it."""
    for marker, there, why in (
        ("needs_root", os.geteuid() == 0, "not root: run the tests with sudo"),
        ("needs_swap", free_swap() >= 1 << 28, "less than 256 MiB of swap are free"),
        ("needs_cgroup2", _cgroup2(), "no cgroup v2 hierarchy to write to"),
    ):
        if item.get_closest_marker(marker) and not there:
            if item.config.getoption("--strict-kernel"):
                pytest.fail(f"{marker}: {why}", pytrace=False)
            pytest.skip(why)


@pytest.fixture
def target() -> Iterator[Target]:
    """A process of the same user, that maps what it is told to."""
    process = Target()
    yield process
    process.close()


@pytest.fixture
def process(target: Target) -> Iterator[Process]:
    """The handle of the target, which is at rest."""
    target.run("None")
    with Process(target.pid) as handle:
        yield handle
