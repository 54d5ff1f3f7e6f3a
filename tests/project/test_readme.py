"""README: every code block is run."""

from __future__ import annotations

import doctest
import os
import re
import stat
from typing import Any

import pytest
from helpers.needs import ROOT
from helpers.targets import MIB, Target
from helpers.waiting import wait_for_state

import pmadvise
from pmadvise import _reasons, selftest

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_blocks_are_of_known_kinds() -> None:
    """There are Python sessions and the two set-up commands, and nothing untested."""
    assert [kind for kind, _ in BLOCKS].count("sh") == 2
    assert {kind for kind, _ in BLOCKS} == {"sh", "pycon"}


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "pycon"])
def test_session(target: Target, code: str) -> None:
    """What README shows is what a user sees."""
    names: dict[str, Any] = {
        "pmadvise": pmadvise,
        "pid": target.pid,
        "address": target.filled(64 * MIB),
    }
    wait_for_state(target.pid, "S")  # at rest, as README shows it
    example = doctest.DocTestParser().get_doctest(code, names, "README.md", None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(example, out=report.append, clear_globs=False)
    if "pidfd" in names:
        os.close(names["pidfd"])
    assert report == []


def test_containers_are_told_alike() -> None:
    """What README and the messages say about containers is the same."""
    section = README.partition("\n## Containers\n")[2].partition("\n## ")[0]
    remedy = _reasons.how_to_allow("process_madvise") + _reasons.how_to_add("SYS_NICE")
    for words in (
        "docker run --cap-add=SYS_PTRACE",
        "podman run --cap-add=SYS_PTRACE",
        'securityContext.capabilities.add: ["SYS_PTRACE"]',
        'securityContext.capabilities.add: ["SYS_NICE"]',
        "--cap-add=SYS_NICE",
        "SystemCallFilter=process_madvise",
        "AmbientCapabilities=CAP_SYS_NICE",
    ):
        assert (words in section, words in remedy) == (True, True), words


def test_checks_are_described() -> None:
    """README names every check of the selftest, and none that is not there."""
    table = README.partition("| `ok` proves | by |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = re.findall(r"`(\w+)`", "".join(rows))
    assert sorted(named) == sorted(selftest.CHECKS)


def test_ci_runs_the_commands() -> None:
    """CI takes the set-up commands from README, so that they work as written."""
    ci = ROOT / ".ci/run"
    assert ci.stat().st_mode & stat.S_IXUSR
    assert "README.md" in ci.read_text(encoding="utf-8")
