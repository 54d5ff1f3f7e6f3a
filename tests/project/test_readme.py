"""README: short, in order, with a program to paste and the commands that CI runs."""

from __future__ import annotations

import re
import stat
import subprocess
import sys

import pytest
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


def program() -> str:
    """Return README's program."""
    blocks = [block for section in sections(README) for block in section.blocks]
    (code,) = [block.code for block in blocks if block.kind == "python"]
    return code


def test_program_has_ten_lines() -> None:
    """The program is as long as its heading tells."""
    assert program().count("\n") == 10


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.parametrize("option", ["-", "-i"], ids=["file", "prompt"])
def test_program_runs_as_pasted(option: str) -> None:
    """Pasted into a file or at Python's prompt the ten lines free what they tell."""
    done = subprocess.run(
        [sys.executable, "-q", option],
        input=program() + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = re.search(r"^(\d+) MiB are in swap: Report\(", done.stdout, re.MULTILINE)
    assert found is not None, done.stderr
    assert int(found[1]) >= 60
    assert "Error" not in done.stderr


def test_order() -> None:
    """First the purpose, then how to get it, the picture, a program, and the rest."""
    text = README.read_text(encoding="utf-8")
    order = ["\n## Install\n", "](docs/screens/", "```python\n", "```sh\n"]
    order += ["\n## What it needs\n", "\n## Where to go\n"]
    places = [text.find(part) for part in order]
    assert places == sorted(places)
    assert min(places) > 0


def test_install_lines() -> None:
    """The command and the library are installed from a clone, and from an index."""
    lines = re.findall(r"`(pipx? install [^`]+)`", README.read_text(encoding="utf-8"))
    assert lines == [
        "pipx install '.[cli]'",
        "pipx install 'pmadvise[cli]'",
        "pip install .",
        "pip install pmadvise",
    ]
