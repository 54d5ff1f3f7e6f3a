"""Whole cgroups, which the daemon of docs/examples relieves by memory.reclaim."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from helpers.daemon import FakeCgroup
from helpers.daemon_fleet import AFTER, BEFORE, GAVE, NOW, OUT, REFUSAL, Fleet
from helpers.targets import MIB
from policy import BACKOFF, REFUSED, Candidate
from prometheus_client import REGISTRY

pytestmark = pytest.mark.needs_sources

Lines = list[dict[str, Any]]


def shown(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"pressured_{name}_bytes_total", labels) or 0.0


def test_an_idle_cgroup(fleet: Callable[..., Fleet], lines: Lines) -> None:
    """It gives memory as a whole, in the same budget, and nobody is paged out."""
    made, before = fleet(), shown("reclaimed")
    advised, freed = shown("advised", advice="RECLAIM"), shown("freed")
    one, other = made.add(made.a, 0.0, 0.001)
    one.process.next = OUT  # type: ignore[attr-defined]
    assert made.relieve()
    assert (made.reclaimed, made.paged_out) == ([("a", 15 * MIB)], [])
    (line,) = lines
    assert (line["event"], line["ended"], line["freed"]) == (
        "relieved",
        "enough",
        15 * MIB,
    )
    assert line["cgroups"] == [
        {
            "cgroup": str(made.a.path),
            "members": 2,
            "advised": 15 * MIB,
            "freed": 15 * MIB,
        }
    ]
    assert (one.swap, other.swap) == (64 * MIB, 0)  # so that a wake is seen
    assert shown("reclaimed") - before == shown("freed") - freed == 15 * MIB
    assert shown("advised", advice="RECLAIM") - advised == 15 * MIB


def test_the_next_one(fleet: Callable[..., Fleet], lines: Lines) -> None:
    """What one cgroup does not give another does, each asked once in an act."""
    made = fleet()
    made.add(made.a, 0.0, 0.0)
    made.add(made.b, 0.001)
    made.answers = [replace(GAVE, reclaimed=5 * MIB, ended="short")]
    assert made.relieve()
    # of the 15 MiB the first was asked for all: what it was asked for is spent
    assert made.reclaimed == [("a", 15 * MIB), ("b", 10 * MIB)]
    assert lines[-1]["ended"] == "enough"


def test_it_falls_short(fleet: Callable[..., Fleet], lines: Lines) -> None:
    """A cgroup that gives next to nothing is left alone for a while, and told of."""
    made = fleet()
    (one,) = made.add(made.a, 0.0)
    made.answers = [replace(GAVE, reclaimed=0, ended="short")]
    assert not made.relieve()
    assert [(line["event"], line["ended"]) for line in lines] == [
        ("freed_nothing", "short")
    ]
    assert one.until == NOW + BACKOFF


def spoil_nothing(_: Fleet, one: Candidate) -> None:
    """Leave it."""


def is_busy(_: Fleet, one: Candidate) -> None:
    one.cpu = 0.5


def is_new(_: Fleet, one: Candidate) -> None:
    one.cpu = math.inf


def is_unknown(made: Fleet, one: Candidate) -> None:
    del made.group.known[one.process.pid]


def woke(_: Fleet, one: Candidate) -> None:
    one.leave_alone(NOW - 1)


def wakes(_: Fleet, one: Candidate) -> None:
    one.swap = 64 * MIB


def is_realtime(_: Fleet, one: Candidate) -> None:
    one.important = "realtime"


def is_excluded(_: Fleet, one: Candidate) -> None:
    one.status = replace(one.status, name="db")


def is_below(made: Fleet, one: Candidate) -> None:
    FakeCgroup(made.a.path / "below", one.process.pid + 100)


SPOILERS = [is_new, is_unknown, woke, wakes, is_realtime, is_excluded, is_below]


@pytest.mark.parametrize("spoil", [is_busy, *SPOILERS])
def test_a_member_that_is_not_idle(
    fleet: Callable[..., Fleet], spoil: Callable[[Fleet, Candidate], None]
) -> None:
    """One is enough: then the others are paged out, one by one."""
    made = fleet("--exclude=db")
    idle, spoiled = made.add(made.a, 0.0, 0.0)
    spoil(made, spoiled)
    assert made.relieve()
    assert made.reclaimed == []
    assert idle.process.pid in made.paged_out


def test_a_choice(fleet: Callable[..., Fleet]) -> None:
    """With --by pageout no cgroup is reclaimed from."""
    made = fleet("--by=pageout")
    (one,) = made.add(made.a, 0.0)
    made.outcomes[one.process.pid] = REFUSAL
    assert not made.relieve()
    assert not made.relieve(NOW + 1)
    assert (made.reclaimed, made.paged_out) == ([], [one.process.pid])


@pytest.mark.parametrize(
    "number", [errno.ENOENT, errno.EACCES, errno.EROFS, errno.ENODEV]
)
def test_where_it_is_impossible(fleet: Callable[..., Fleet], number: int) -> None:
    """Its processes are paged out, and it is asked again after ten minutes."""
    made = fleet()
    (one,) = made.add(made.a, 0.0)
    made.answers = [OSError(number, "no")]
    for now in (NOW, NOW + REFUSED - 1):
        one.swap = 0
        assert made.relieve(now)
    one.swap = 0
    assert (len(made.reclaimed), made.paged_out) == (1, [one.process.pid] * 2)
    assert made.relieve(NOW + REFUSED)
    assert len(made.reclaimed) == 2


def test_its_own_errors(fleet: Callable[..., Fleet]) -> None:
    """That no descriptor is free tells nothing of the cgroup."""
    made = fleet()
    made.add(made.a, 0.0)
    made.answers = [OSError(errno.EMFILE, "none is free")]
    with pytest.raises(OSError, match="none is free"):
        made.relieve()
    assert made.relieve()
    assert len(made.reclaimed) == 2


def test_who_refuses_for_want_of_rights(fleet: Callable[..., Fleet]) -> None:
    """Then the kernel chooses in its cgroup, even if another one works there."""
    made = fleet()
    idle, _ = made.add(made.a, 0.0, 0.5)
    made.outcomes[idle.process.pid] = REFUSAL
    assert not made.relieve()
    assert (made.reclaimed, made.paged_out) == ([], [idle.process.pid])
    assert made.relieve(NOW + 1)
    assert (len(made.reclaimed), len(made.paged_out)) == (1, 1)
    assert idle.refused == "EPERM"  # it counts as one that refuses still


@pytest.mark.parametrize("spoil", [spoil_nothing, woke, is_realtime, is_excluded])
def test_who_refuses_among_others(
    fleet: Callable[..., Fleet], spoil: Callable[[Fleet, Candidate], None]
) -> None:
    """Not where another can be paged out, or is to be left alone."""
    made = fleet("--exclude=db")
    refusing, other, _ = made.add(made.a, 0.0, 0.0, 0.5)
    assert refusing.refused_by("EPERM", NOW)
    spoil(made, other)
    made.relieve()
    assert made.reclaimed == []
    assert made.paged_out == [other.process.pid] * (spoil is spoil_nothing)


def test_no_right_at_all(fleet: Callable[..., Fleet], lines: Lines) -> None:
    """Without it nobody is asked, and a cgroup is relieved if any of it is idle."""
    made = fleet()
    made.relief.wholes.may_page_out = False
    made.add(made.b, 0.5)
    assert not made.relieve(NOW - 1)
    made.add(made.a, 0.0, 0.5)
    assert made.relieve()
    assert (made.reclaimed, made.paged_out) == ([("a", 15 * MIB)], [])
    made.answers = [OSError(errno.EACCES, "not its owner")]
    assert not made.relieve(NOW + 20)
    assert lines[-1]["reasons"] == {"refused": 1, "busy": 2}
    assert made.paged_out == []


def test_protected(fleet: Callable[..., Fleet], lines: Lines) -> None:
    """memory.low bounds what is asked for."""
    made = fleet()
    made.add(made.a, 0.0)
    made.a.write(memory_current=20 * MIB, memory_low=16 * MIB)
    assert made.relieve()
    assert made.reclaimed == [("a", 4 * MIB)]
    made.a.write(memory_low="max")
    made.relieve(NOW + 1)
    assert (len(made.reclaimed), lines[-1]["reasons"]) == (1, {"protected": 1})


@pytest.mark.parametrize("is_counted", [True, False])
def test_a_rate(fleet: Callable[..., Fleet], is_counted: bool) -> None:
    """What went to swap counts: by swap accounting, or by what is gone of a kind."""
    made = fleet("--rate=20M")
    made.add(made.a, 0.0)
    if not is_counted:
        before, after = replace(BEFORE, swap=None), replace(AFTER, swap=None)
        made.answers = [replace(GAVE, before=before, after=after)]
    now = made.relief._latest
    assert made.relieve(now)
    assert made.relief._allowance == 8 * MIB


def test_a_dry_run(fleet: Callable[..., Fleet], lines: Lines) -> None:
    """It asks whether it may, for 0 bytes, and tells what it would do."""
    made = fleet("--dry-run")
    made.add(made.a, 0.0)
    made.relieve()
    assert made.reclaimed == [("a", 0)]
    assert (lines[0]["event"], lines[0]["advised"]) == ("would_relieve", 15 * MIB)
    made.relieve(NOW + 1)
    assert len(lines[1:]) == len(made.reclaimed[1:]) + 1 == 1  # `nobody`: backoff
