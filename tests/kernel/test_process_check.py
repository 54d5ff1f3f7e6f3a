"""Process.check()."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from helpers.children import in_child
from helpers.privileges import CAP_SYS_NICE, drop_capabilities
from helpers.targets import PAGE, Target

from pmadvise import Advice, Process

root = pytest.mark.needs_root


@root
def test_check_advises_nothing(target: Target, process: Process) -> None:
    """An advice that is allowed raises nothing, and nothing is advised."""
    address = target.filled(64 * PAGE)
    for advice in Advice:
        if advice.remote:
            process.check(advice)
    assert target.smaps(address, "Referenced") == 64 * PAGE


@pytest.mark.parametrize("advice", [a for a in Advice if not a.remote] + [99], ids=str)
def test_check_of_what_is_not_for_others(process: Process, advice: int) -> None:
    """An advice that another process never takes is refused."""
    with pytest.raises(ValueError, match="not for another process"):
        process.check(advice)


@root
def test_check_without_cap_sys_nice(process: Process) -> None:
    """Without CAP_SYS_NICE it is PermissionError that says so."""

    def check() -> None:
        drop_capabilities(CAP_SYS_NICE)
        process.check(Advice.COLD)

    outcome = in_child(check)
    assert (outcome.error, outcome.errno) == ("PermissionError", errno.EPERM)
    assert "CAP_SYS_NICE" in outcome.text


@pytest.mark.parametrize("advice", ["COLD", None, 20.0])
def test_check_of_what_is_no_advice(process: Process, advice: Any) -> None:
    """An advice that is no int is a TypeError."""
    with pytest.raises(TypeError, match="advice"):
        process.check(advice)
