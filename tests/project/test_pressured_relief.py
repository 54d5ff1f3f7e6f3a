"""What the daemon of docs/examples does after it has acted, without a real process."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pressured
import pytest
import relief
import telemetry
from cgroup import Cgroup, Fill
from helpers.daemon import FakeCgroup
from options import load
from policy import Candidate
from relief import REST, REST_FRUITLESS, REST_NOBODY, Relief

from pmadvise import Report, Status, Swap

pytestmark = pytest.mark.needs_sources

MIB = 1 << 20
FULL = Status("x", 0, 1, "S", 1, 64 * MIB, 64 * MIB, 0, 0, 0, 0, 0.0, 0, 0.0)
OUT = replace(FULL, rss=0, anonymous=0, swap=64 * MIB)
WENT = Report(21, 64 * MIB, 64 * MIB, (), 1, 0.1, 0.1, "budget", FULL, OUT)
STAYED = replace(WENT, after=FULL)
NEED = Fill("/a", 96 * MIB, 80 * MIB)

Lines = list[dict[str, Any]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What is logged."""
    found: Lines = []

    def log(event: str, **fields: Any) -> None:
        found.append({"event": event, **fields})

    monkeypatch.setattr(relief, "log", log)
    monkeypatch.setattr(telemetry, "log", log)
    return found


class Group:
    """A full cgroup with processes that are asleep, and what happens to them."""

    def __init__(
        self, path: Path, outcomes: list[Report | OSError], *options: str
    ) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[int] = []
        self.group = Cgroup(str(FakeCgroup(path).path))
        self.relief = Relief(
            load(["--cgroup", "/a", "--swap-floor=0", *options]), lambda: False
        )
        for pid in range(len(outcomes)):
            process: Any = SimpleNamespace(
                status=lambda: FULL, pid=(1 << 22) + pid, maps=lambda: None
            )
            one = Candidate(process, "/a", FULL, looked=0.0, cpu=0.0, asked=1e9)
            self.group.known[pid] = one

    def advise_each(self, processes: list[Any], *_: Any, **options: Any) -> Any:
        """Stand for pmadvise.advise_each()."""
        self.asked.append(options["budget"])
        return [(processes[0], self.outcomes.pop(0))]

    def relieve(self, now: float) -> bool:
        return self.relief.relieve(self.group, now, NEED, "watermark")


@pytest.fixture
def full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> Callable[..., Group]:
    """Make a group."""

    def make(*outcomes: Report | OSError, options: tuple[str, ...] = ()) -> Group:
        clock = SimpleNamespace(monotonic=lambda: 0.0)  # no act takes long
        monkeypatch.setattr(relief, "time", clock)
        group = Group(tmp_path / "group", list(outcomes), *options)
        monkeypatch.setattr(relief, "advise_each", group.advise_each)
        monkeypatch.setattr(relief, "swap", lambda: Swap(1 << 30, 1 << 30, True))
        return group

    return make


def test_it_looks_again_at_once(full: Callable[..., Group]) -> None:
    """A group that gave memory may have grown meanwhile: there is no rest."""
    group = full(WENT)
    assert group.relieve(100.0)
    assert group.group.later <= 100.0


def test_it_rests_when_nobody_can_go(full: Callable[..., Group], lines: Lines) -> None:
    """A group that has nobody is looked at less and less, and told of once."""
    group = full()
    now, rests = 100.0, []
    for _ in range(6):
        assert not group.relieve(now)
        rests.append(group.group.later - now)
        now = group.group.later
    assert rests[:3] == [REST, 2 * REST, 4 * REST]
    assert rests[-1] == REST_NOBODY
    assert [line["event"] for line in lines] == ["nobody"]


def test_it_rests_when_nothing_is_freed(
    full: Callable[..., Group], lines: Lines
) -> None:
    """What stays in memory is tried again, ever later, and told of once."""
    group = full(*[STAYED] * 6)
    now, rests = 100.0, []
    for number in range(6):
        for other, one in enumerate(group.group.known.values()):
            one.until = now if other == number else 1e9
        assert not group.relieve(now)
        rests.append(group.group.later - now)
        now = group.group.later
    assert rests == [
        REST,
        2 * REST,
        4 * REST,
        8 * REST,
        16 * REST,
        REST_FRUITLESS / 30 * 16,
    ]
    assert [line["event"] for line in lines] == ["freed_nothing"]
    assert lines[0]["freed"] == 0


def test_who_gives_nothing_is_left_alone(full: Callable[..., Group]) -> None:
    """Then it is asked for more at once: what comes first may be what is shared."""
    group = full(STAYED, WENT)
    first, second = group.group.known.values()
    assert group.relieve(100.0)
    assert (first.until, second.until) == (130.0, float("-inf"))
    assert (first.is_fruitless, second.is_fruitless) == (True, False)
    assert group.asked == [32 * MIB, 32 * MIB]  # 96 of 80 MiB, to 80 %
    group.outcomes = [STAYED]
    group.group.known.popitem()
    group.relieve(200.0)
    assert group.asked[2] == 256 * MIB


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_its_own_errors(full: Callable[..., Group], number: int, lines: Lines) -> None:
    """They are not booked on the target, which is tried again."""
    group = full(OSError(number, "none is free"), WENT)
    with pytest.raises(OSError, match="none is free"):
        group.relieve(100.0)
    assert all(not one.refused for one in group.group.known.values())
    assert group.relieve(101.0)
    assert [line["event"] for line in lines] == ["relieved"]


def test_refusals_are_the_target_s(full: Callable[..., Group], lines: Lines) -> None:
    """Who refuses is told of once, left alone for long, and asked again."""
    error = PermissionError(errno.EACCES, "no right")
    group = full(error, replace(WENT, ended="refused"), WENT)
    assert group.relieve(100.0)
    refused = [line for line in lines if line["event"] == "refused"]
    assert [line["errno"] for line in refused] == ["EACCES", "EPERM"]
    del group.group.known[2]
    group.outcomes = [error, error]
    assert not group.relieve(1000.0)
    assert [line["event"] for line in lines].count("refused") == 3  # EPERM, then EACCES
    assert len(group.asked) == 5


def test_who_has_gone(full: Callable[..., Group], lines: Lines) -> None:
    """Processes that end, or run another program, are no failure."""
    group = full(ProcessLookupError(), replace(WENT, before=None, ended="exited"), WENT)
    assert group.relieve(100.0)
    assert [line["event"] for line in lines] == ["relieved"]
    group.outcomes = [replace(WENT, ended="exec")]
    group.group.known.clear()
    process: Any = SimpleNamespace(status=lambda: FULL, pid=1 << 22, maps=lambda: None)
    group.group.known[1] = one = Candidate(process, "/a", FULL, 0.0, cpu=0.0, asked=1e9)
    group.relieve(200.0)
    assert one.cpu == float("inf")


def test_a_dry_run_repeats_nothing(full: Callable[..., Group], lines: Lines) -> None:
    """What it would do is told once a rest, and counted as if it were done."""
    group = full(STAYED, STAYED, options=("--dry-run",))
    assert group.relieve(100.0)
    assert [line["event"] for line in lines] == ["would_relieve"]
    assert lines[0]["advised"] == 64 * MIB
    assert group.group.later == 100.0 + REST


def test_a_rate(full: Callable[..., Group], lines: Lines) -> None:
    """Beyond it nobody goes, and it is told why."""
    group = full(WENT, WENT, options=("--rate=16M",))
    start = group.relief._latest
    assert group.relieve(start)
    assert group.asked == [16 * MIB]
    assert not group.relieve(start + 1)
    assert lines[-1]["reasons"] == {"rate": 2}
    assert group.group.later == start + 1 + REST
    assert group.relieve(start + 5)


def test_who_is_new_does_not_hide_who_went(
    full: Callable[..., Group], lines: Lines
) -> None:
    """Nothing is told of the new alone; what was done is told."""
    group = full(WENT, replace(WENT, advised=0, after=FULL, ended="complete"))
    first, second = group.group.known.values()
    first.cpu = second.cpu = float("inf")
    assert not group.relieve(100.0)
    assert (lines, group.group.later) == ([], 100.0 + REST)
    first.cpu = 0.0
    assert group.relieve(101.0)
    assert [line["event"] for line in lines] == ["relieved"]
    del group.group.known[0]
    second.cpu = 0.0
    assert not group.relieve(102.0)
    assert lines[-1]["reasons"] == {"nothing": 1}


@pytest.mark.parametrize(
    ("space", "reason"),
    [(Swap(0, 0, False), "no_swap"), (Swap(MIB, MIB // 10, True), "swap_floor")],
)
def test_no_swap(
    full: Callable[..., Group],
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
    space: Swap,
    reason: str,
) -> None:
    """Without swap, or at its floor, nobody goes, and it is told why."""
    group = full(WENT, options=("--swap-floor=10%",))
    monkeypatch.setattr(relief, "swap", lambda: space)
    assert not group.relieve(100.0)
    assert (group.asked, lines[0]["reasons"]) == ([], {reason: 1})


def test_what_is_told_once(lines: Lines) -> None:
    """It is told again once it changes, not too often, and after a long silence."""
    teller = telemetry.Teller("/a")
    told = (0, 1), (5, 1), (6, 2), (9, 1), (12, 2), (15, 2), (80, 2), (81, 3)
    for now, value in told:
        teller.tell("e", value, float(now), value=value)
    assert [line["value"] for line in lines] == [1, 2, 2]
    teller.forget()
    teller.tell("e", 3, 82.0, value=3)
    assert lines[-1] == {"event": "e", "cgroup": "/a", "value": 3}


@pytest.mark.parametrize(
    ("host", "is_stalled", "used", "trigger"),
    [
        (0.2, False, 25, []),  # another cgroup is at its limit
        (0.95, False, 25, ["pressure"]),
        (0.2, True, 25, ["pressure"]),
        (0.2, False, 95, ["watermark"]),
        (0.95, True, 95, ["watermark"]),
    ],
)
def test_the_host_s_pressure(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: float,
    is_stalled: bool,
    used: int,
    trigger: list[str],
) -> None:
    """It counts if the host is short of memory, or the cgroup itself waits for it."""
    fake = FakeCgroup(tmp_path / "a", memory_current=used * MIB, memory_max=100 * MIB)
    daemon = pressured.Daemon(load(["--cgroup", str(fake.path)]), [], -1)
    [group] = daemon.groups
    triggers: list[str] = []

    def relieve(*arguments: Any) -> bool:
        triggers.append(arguments[3])
        return False

    monkeypatch.setattr(daemon.relief, "relieve", relieve)
    monkeypatch.setattr(group, "is_stalled", lambda: is_stalled)
    monkeypatch.setattr(pressured, "host", lambda: Fill("", host, 1.0))
    daemon.attend(group, 100.0, due=True, woken=False, fired=True)
    assert triggers == trigger
    daemon.attend(group, 101.0, due=False, woken=False, fired=False)
    assert triggers == trigger + trigger * (used == 95)
