"""README: short, and with the set-up commands that CI runs."""

from __future__ import annotations

import stat

from helpers.needs import ROOT
from helpers.pages import sections

README = ROOT / "README.md"
SET_UP = [
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && "
    ".venv/bin/python -m pmadvise.selftest\n",
    ".venv/bin/python -m pytest -n 4 --dist loadgroup\n",
]


def test_set_up_commands() -> None:
    """README has the two set-up commands, a block each, as they always were."""
    blocks = [block for section in sections(README) for block in section.blocks]
    assert [block.code for block in blocks if block.kind == "sh"] == SET_UP


def test_is_short() -> None:
    """README is read in three screens: the rest is in the guide."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 140


def test_ci_runs_the_commands() -> None:
    """CI takes the set-up commands from README, so that they work as written."""
    ci = ROOT / ".ci/run"
    assert ci.stat().st_mode & stat.S_IXUSR
    assert "README.md" in ci.read_text(encoding="utf-8")
