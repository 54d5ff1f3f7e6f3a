"""How soon the daemon of docs/examples looks again after it has acted."""

from __future__ import annotations

import argparse
import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.needs import ROOT

from pmadvise import Report, Status

pytestmark = pytest.mark.needs_sources

MIB = 1 << 20
FULL = Status("x", 0, 1, "S", 1, 64 * MIB, 64 * MIB, 0, 0, 0, 0, 0.0, 0, 0.0)
OUT = Status("x", 0, 1, "S", 1, 0, 0, 0, 0, 64 * MIB, 0, 0.0, 0, 0.0)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The daemon's module."""
    folder = str(ROOT / "docs/examples/pressured")
    monkeypatch.setattr(sys, "path", [folder, *sys.path])
    return importlib.import_module("pressured")


def relieved(module: Any, advised: int) -> tuple[float, float]:
    """Let a daemon relieve a group of one idle process, of which some bytes go.

    Returns:
        The pause before its next look, and when it tries that group again.
    """
    daemon = module.Daemon(argparse.Namespace(cgroup=[], budget=256), -1)
    report = Report(21, advised, advised, (), 1, 0.1, 0.1, "budget", FULL, OUT)
    daemon.advise = lambda *_: report if advised else None
    process: Any = SimpleNamespace(status=lambda: FULL, pid=1)
    one = module.Candidate(process, "", FULL, looked=0.0, cpu=0.0)
    group = SimpleNamespace(directory="/a", known={1: one}, later=0.0)
    daemon.relieve(group, 100.0, 32 * MIB, "watermark")
    return daemon.pause, group.later


def test_it_looks_again_at_once(module: Any) -> None:
    """A group that gave memory may have grown meanwhile: there is no pause."""
    assert relieved(module, 32 * MIB) == (0.0, 0.0)


def test_it_rests_when_nothing_goes(module: Any) -> None:
    """A group that has nothing to give is not asked without pause."""
    assert relieved(module, 0) == (module.TICK, 100.0 + module.REST)
