"""Fixtures: a scripted cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_cgroup import FakeCgroup


@pytest.fixture(name="fake")
def fake_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCgroup:
    """A cgroup of 100 MiB."""
    return FakeCgroup(tmp_path / "group", monkeypatch)
