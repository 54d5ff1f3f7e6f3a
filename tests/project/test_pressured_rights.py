"""What the daemon of docs/examples does with rights that it may lack."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import policy
import pytest
import relief
import startup
from helpers.daemon import FakeCgroup, Idle, Scripted
from helpers.daemon_fleet import NOW, REFUSAL, SLEEPS, Fleet
from helpers.targets import MIB
from options import load
from policy import Candidate
from startup import prepare

import pmadvise
from pmadvise import Process

pytestmark = pytest.mark.needs_sources

Lines = list[dict[str, Any]]


def test_read_back_mapped(fleet: Callable[..., Fleet], lines: Lines) -> None:
    """Who wakes is read back and mapped; without that right only read."""
    made = fleet()
    (one,) = made.add(made.a, 0.0)
    one.swap = 64 * MIB
    assert made.relief.look(one, NOW, 64 * MIB) == 64 * MIB
    assert made.touched == [True]
    made.outcomes[one.process.pid] = REFUSAL
    one.swap = 64 * MIB
    made.relief.look(one, NOW + 1, 64 * MIB)
    one.swap = 64 * MIB
    made.relief.look(one, NOW + 2, 64 * MIB)
    assert made.touched == [True, True, False, False]
    assert [line["event"] for line in lines].count("refused") == 1


@pytest.mark.slow
@pytest.mark.needs_root
@pytest.mark.needs_swap
def test_read_back_for_real(
    idle: Idle, fleet: Callable[..., Fleet], monkeypatch: Any
) -> None:
    """No fault is left to the process for what it had in memory."""
    made = fleet()
    monkeypatch.setattr(relief, "advise_each", pmadvise.advise_each)
    with Process(idle.pid) as process:
        process.pageout()
        one = Candidate(process, "", process.status(), NOW)
        assert one.status.swap > 24 * MIB
        one.swap = one.status.swap + 2 * MIB  # as if so much came back
        made.relief.look(one, NOW + 1, 1 << 30)
        assert process.status().swap < MIB
        before = process.status()
        assert idle.intact(idle.area, 32 * MIB)
        after = process.status()
    assert after.major_faults == before.major_faults


def test_without_rights_to_begin_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts if a cgroup may be relieved as a whole, and tells why no process."""
    no = SimpleNamespace(other_processes=False, reason="no", remedy="do")
    answer = type("No", (), {"__bool__": lambda _: False, "reason": "r", "remedy": "m"})
    monkeypatch.setattr(startup, "support", lambda: no)
    no.other_processes = answer()
    path = str(FakeCgroup(tmp_path / "a").path)
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(startup, "reclaim", lambda *args: asked.append(args))
    assert prepare(load(["--cgroup", path])) == "r; m"
    assert asked == [(path, 0)]
    for arguments in (["--by=pageout"], []):
        if not arguments:
            monkeypatch.setattr(startup, "may_reclaim", lambda _: False)
        with pytest.raises(OSError, match="r; m"):
            prepare(load(["--cgroup", path, *arguments]))


def test_who_spares_a_cgroup() -> None:
    """The daemon's own cgroup is not relieved, whatever it does."""
    one = Candidate(Scripted(SLEEPS), "/a", SLEEPS, 0.0, cpu=0.0, asked=math.inf)  # type: ignore[arg-type]
    assert not policy.spares_cgroup(one, NOW, ())
    one.process.pid = next(iter(policy.ancestors()))  # type: ignore[misc]
    assert policy.spares_cgroup(one, NOW, ())
