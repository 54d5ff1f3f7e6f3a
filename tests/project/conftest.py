"""Fixtures of the tests of docs/examples/pressured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.daemon import FULL, FakeCgroup, Idle


@pytest.fixture
def idle() -> Iterator[Idle]:
    target = Idle()
    yield target
    target.close()


@pytest.fixture
def full(idle: Idle, tmp_path: Path) -> FakeCgroup:
    """A cgroup that stays full, with the idle process in it."""
    return FakeCgroup(tmp_path / "group", idle.pid, **FULL)
