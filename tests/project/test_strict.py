"""--strict-kernel: a test that is skipped for want of something is a failed one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.inner_pytest import outcomes

pytestmark = [pytest.mark.no_swap, pytest.mark.slow]

PROGRAM = """
import pytest

@pytest.mark.needs_cpus(1)
def test_has_one():
    pass

@pytest.mark.needs_cpus(100_000)
def test_lacks_cpus():
    pass

@pytest.mark.needs_tool("no_such_module")
def test_lacks_a_tool():
    pass

def test_skips_itself():
    pytest.skip("no luck")

def test_of_another_kernel():
    pytest.skip("kernel: it lacks the advice")

@pytest.mark.skipif(True, reason="machine: not of this architecture")
def test_of_another_machine():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_that_is_known_to_fail():
    assert False
"""


def test_a_skip_names_what_is_missing(tmp_path: Path) -> None:
    """Without the option tests are skipped, each with its reason."""
    status, summary = outcomes(tmp_path, PROGRAM)
    cpus = len(os.sched_getaffinity(0))
    reasons = [line.rpartition(": ")[2] for line in summary if "SKIPPED" in line]
    assert status == 0
    assert sorted(reasons) == [
        "it lacks the advice",
        "no luck",
        "not of this architecture",
        "pip install --group lint --group package --group interop",
        f"run it on a larger machine, it has {cpus}",
    ]


def test_strict_forbids_skips(tmp_path: Path) -> None:
    """With it they fail, unless the kernel or the machine lacks what is tested."""
    status, summary = outcomes(tmp_path, PROGRAM, "--strict-kernel")
    failed = {
        line.partition("::")[2].partition(" ")[0]
        for line in summary
        if line.startswith(("FAILED", "ERROR"))
    }
    assert status == 1
    assert failed == {"test_lacks_cpus", "test_lacks_a_tool", "test_skips_itself"}
    assert summary[-1].startswith("1 failed, 1 passed, 2 skipped, 1 xfailed, 2 errors")


def test_strict_forbids_modules_that_skip_themselves(tmp_path: Path) -> None:
    """A module that is skipped whole is found, too."""
    program = "import pytest\npytest.importorskip('no_such_module')\n"
    status, summary = outcomes(tmp_path, program, "--strict-kernel")
    assert status != 0
    assert any(line.startswith("ERROR") for line in summary)


@pytest.mark.parametrize("marker", ["needs_everything", "needs_swp"])
def test_a_misspelled_marker_is_an_error(tmp_path: Path, marker: str) -> None:
    """A marker that nobody evaluates does not pass for one."""
    program = f"import pytest\n@pytest.mark.{marker}\ndef test_x(): pass\n"
    assert outcomes(tmp_path, program)[0] != 0
