"""The parts of docs/examples/pressured that decide, without a real process."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cgroup
import policy
import pytest
from cgroup import Cgroup
from helpers.daemon import EMPTY, FakeCgroup, Scripted
from helpers.targets import MIB, Target
from policy import ASK_AGAIN, BACKOFF, BACKOFF_MAX, BUSY, SMALL, Candidate

from pmadvise import Process, Swap


def candidate(**fields: Any) -> tuple[Candidate, Scripted]:
    status = replace(EMPTY, anonymous=64 * MIB, **fields)
    process: Any = Scripted(status)
    return Candidate(process, "/a", status, looked=0.0), process


def ranked(cpu: float, mib: int = 64, name: str = "x", cgroup: str = "/a") -> Candidate:
    one, _ = candidate()
    one.cpu, one.status = cpu, replace(EMPTY, anonymous=mib * MIB, name=name)
    one.asked, one.cgroup = math.inf, cgroup
    return one


def test_least_cpu_time_first() -> None:
    """Who worked least goes first; of two that slept, the larger one."""
    small, large, awake = ranked(0.0, 8), ranked(0.0, 80), ranked(0.01)
    chosen, reasons = policy.choose([awake, small, large], 0.0)
    assert (chosen, reasons) == ([large, small, awake], {})


def test_who_is_never_chosen() -> None:
    """The busy, the new, the small and those left alone are not paged out."""
    alone, refusing = ranked(0.0), ranked(0.0)
    alone.until = 10.0
    assert refusing.refused_by("EACCES", 0.0)
    others = [ranked(BUSY), ranked(math.inf), ranked(0.0, (SMALL >> 20) - 1)]
    expected = {"busy": 1, "new": 1, "small": 1}
    all_of_them = [alone, refusing, *others]
    assert policy.choose(all_of_them, 9.0) == (
        [],
        {**expected, "backoff": 1, "refused": 1},
    )
    assert policy.choose(all_of_them, 10.0) == ([alone], {**expected, "refused": 1})
    assert policy.choose(all_of_them, 601.0) == ([alone, refusing], expected)
    assert not refusing.refused_by("EACCES", 601.0)  # told already
    assert refusing.refused_by("EPERM", 1202.0)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        *(("x", 1), ("?", 1), ("[wx]", 1), ("X", 0), ("xx", 0), ("*", 1)),
        *(("/a", 1), ("/a/b", 0), ("/", 1), ("/ab", 0)),
    ],
)
def test_excluded(pattern: str, expected: int) -> None:
    """A name is matched as a whole; a cgroup with those below it."""
    assert policy.choose([ranked(0.0)], 0.0, [pattern])[1]["excluded"] == expected


def test_excluded_below() -> None:
    """A cgroup's name that begins alike is another one."""
    some = [ranked(0.0, cgroup=path) for path in ("/a/b", "/a/b/c", "/a/bc", "/a")]
    assert policy.choose(some, 0.0, ["/a/b"])[0] == some[2:]


def test_cpu_time_lately() -> None:
    """The share of a CPU is that of the last seconds; old work is soon forgotten."""
    one, process = candidate(cpu=100.0)
    assert one.look(2.0) == 0
    assert one.cpu == 0.0
    process.next = replace(one.status, cpu=102.0)
    one.look(4.0)
    assert 0.5 < one.cpu <= 1.0
    for now in range(6, 20, 2):
        one.look(float(now))
    assert one.cpu < BUSY


def test_bytes_that_came_back() -> None:
    """What left swap since the process was paged out came back; an exit does not."""
    one, process = candidate(swap=0)
    one.paged_out(32 * MIB, 1.0)
    process.next = replace(one.status, swap=20 * MIB)
    assert (one.look(2.0), one.swap) == (12 * MIB, 0)
    assert one.until == 2.0 + BACKOFF
    one.paged_out(32 * MIB, 2.5)
    process.next = replace(one.status, state="Z", swap=0)
    assert (one.look(3.0), one.gone) == (0, False)
    process.next = None
    assert (one.look(4.0), one.gone) == (0, True)


def test_backoff_grows() -> None:
    """Who wakes is left alone, twice as long each time, and not for ever."""
    one, _ = candidate()
    waits, now = [], 0.0
    for _ in range(8):
        one.paged_out(32 * MIB, now)
        one.leave_alone(now)
        waits.append(one.until - now)
        now = one.until
    assert waits[:3] == [BACKOFF, 2 * BACKOFF, 4 * BACKOFF]
    assert waits[-1] == BACKOFF_MAX
    now += 5 * BACKOFF_MAX
    one.paged_out(32 * MIB, now)
    one.leave_alone(now)
    assert one.until - now == BACKOFF


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory_current": 5 * MIB, "memory_max": 9 * MIB}, (5 * MIB, 9 * MIB)),
        (
            {"memory_current": MIB, "memory_max": "max", "memory_high": 3 * MIB},
            (MIB, 3 * MIB),
        ),
        (
            {"memory_usage_in_bytes": MIB, "memory_limit_in_bytes": 2 * MIB},
            (MIB, 2 * MIB),
        ),
        ({"memory_current": MIB, "memory_max": "max"}, None),
        ({"memory_usage_in_bytes": 1, "memory_limit_in_bytes": 1 << 62}, None),
        ({}, None),
    ],
)
def test_fill(
    tmp_path: Path, files: dict[str, object], expected: tuple[int, int] | None
) -> None:
    """The lowest limit counts, of either version; without one that of the host."""
    FakeCgroup(tmp_path, **files)
    where, used, limit = Cgroup(str(tmp_path)).fill()
    if expected is None:
        assert (where, limit) == ("", cgroup.host().limit)
        assert 0 < used < limit
    else:
        assert (where, used, limit) == (str(tmp_path), *expected)


def test_the_scarcest_of_all_above(tmp_path: Path) -> None:
    """The limit of each ancestor counts; v1 may have those that do not add up."""
    above = FakeCgroup(tmp_path / "a", memory_current=9 * MIB, memory_max=10 * MIB)
    inner = FakeCgroup(tmp_path / "a/b", memory_current=MIB, memory_max=8 * MIB)
    assert Cgroup(str(inner.path)).fill() == (str(above.path), 9 * MIB, 10 * MIB)
    above.write(memory_use_hierarchy=0)
    assert Cgroup(str(inner.path)).fill() == (str(inner.path), MIB, 8 * MIB)
    inner.write(memory_current=8 * MIB, memory_max=0)
    assert Cgroup(str(inner.path)).fill().ratio == math.inf
    inner.write(memory_current=0)
    assert Cgroup(str(inner.path)).fill().ratio == 0


def test_a_cgroup_s_own_pressure(tmp_path: Path, monkeypatch: Any) -> None:
    """It is told from that of the host, over the time of a look or two."""
    fake = FakeCgroup(tmp_path / "a", memory_current=1, memory_max=2)
    group, now = Cgroup(str(fake.path)), 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def stalled(microseconds: int) -> None:
        text = f"some avg10=0.00 total={microseconds}\nfull avg10=0.00 total=7"
        fake.write(memory_pressure=text)

    assert not group.is_stalled()
    for total, expected in (
        (5, False),
        (10_000, False),
        (90_000, True),
        (90_000, True),
        (90_000, False),
    ):
        stalled(total)
        assert group.is_stalled() is expected
        group.refresh(now)
        now += 2.0
    (fake.path / "memory.pressure").unlink()
    assert not group.is_stalled()


def test_fill_of_a_removed_cgroup(tmp_path: Path) -> None:
    """A cgroup that has gone is an error, and not an empty one."""
    fake = FakeCgroup(tmp_path / "a", memory_current=1, memory_max=2)
    group = Cgroup(str(fake.path))
    for file in fake.path.iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match=str(fake.path)):
        group.fill()


def test_unprotected(tmp_path: Path) -> None:
    """memory.min and memory.low of a cgroup and of those above it are honoured."""
    FakeCgroup(tmp_path / "a", memory_current=90, memory_min=0, memory_low=0)
    parent = FakeCgroup(
        tmp_path / "a/b", memory_current=80, memory_min=10, memory_low=0
    )
    leaf = FakeCgroup(tmp_path / "a/b/c", memory_current=50, memory_low=0)
    assert cgroup.unprotected(str(leaf.path)) == 70
    leaf.write(memory_low=30, memory_min=20)
    assert cgroup.unprotected(str(leaf.path)) == 20
    parent.write(memory_min=75)
    assert cgroup.unprotected(str(leaf.path)) == 5
    parent.write(memory_low="max")
    assert cgroup.unprotected(str(leaf.path)) < 0
    assert cgroup.unprotected(str(tmp_path / "a")) == math.inf


@pytest.mark.parametrize(
    ("at_once", "text", "expected"),
    [
        (False, "anon 5\nswapcached 4096", 4096),
        (False, "swapcached 0\ntotal_swapcached 8192", 8192),
        (False, "anon 5", 0),
        (True, "swapcached 4096", 0),
    ],
)
def test_swap_cache(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: bool,
    text: str,
    expected: int,
) -> None:
    """What waits in the swap cache of it and of those below does not count as used."""
    monkeypatch.setattr(cgroup, "swap", lambda: Swap(1, 1, at_once))
    fake = FakeCgroup(tmp_path / "a", memory_stat=text)
    assert cgroup.swap_cache(str(fake.path)) == expected
    assert cgroup.swap_cache("") == 0


@pytest.mark.needs_root
def test_another_program(target: Target, process: Process) -> None:
    """A process that executed another program is new, and can be advised again."""
    one = Candidate(process, "", process.status(), 0.0, cpu=0.0, swap=MIB)
    target.exec_again()
    assert process.cold().ended == "exec"
    one.begin_anew()
    assert (one.cpu, one.swap) == (math.inf, 0)
    assert process.cold().ended == "complete"


def test_who_is_important(
    target: Target, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A low oom_score_adj spares; an ID that is another's by now tells nothing."""
    one = Candidate(process, "", process.status(), 0.0, cpu=0.0)
    score = int(Path(f"/proc/{target.pid}/oom_score_adj").read_text())
    assert one.why_important(0.0) == ""
    monkeypatch.setattr(policy, "IMPORTANT", score)
    assert one.why_important(1.0) == ""  # it was asked lately
    assert one.why_important(1.0, 0.5) == "oom_score_adj"
    assert one.why_important(ASK_AGAIN) == "oom_score_adj"
    target.kill()
    assert one.why_important(3 * ASK_AGAIN) == "gone"


def test_its_own() -> None:
    """Itself, and those that it descends from, up to init."""
    assert {os.getpid(), os.getppid()} <= policy.ancestors()
