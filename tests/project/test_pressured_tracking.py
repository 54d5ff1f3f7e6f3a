"""Who is tracked, and when: --idle-ranges of docs/examples/pressured, by fakes."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import relief
import telemetry
import tracking
from account import Account
from cgroup import Cgroup, Fill
from helpers.command import IMPORT_PATH
from helpers.daemon import EMPTY, PROGRAM, FakeCgroup
from helpers.daemon_loop import looking
from helpers.daemon_trackers import IDLE, candidate, passed
from helpers.targets import MIB
from options import load
from policy import BACKOFF
from relief import Relief
from tracking import MOST, WORTH, Tracking

from pmadvise import Ranges, Report, Swap

pytestmark = pytest.mark.needs_sources

ARGUMENTS = ("--cgroup=/a", "--swap-floor=0", "--idle-ranges=60s")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is logged."""
    found: list[dict[str, Any]] = []
    for module in (relief, telemetry, tracking):
        monkeypatch.setattr(
            module, "log", lambda event, **f: found.append({"event": event, **f})
        )
    return found


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The CPU time of each look, in seconds."""
    spent = SimpleNamespace(seconds=0.0, total=0.0)

    def thread_time() -> float:
        spent.total += spent.seconds
        return float(spent.total)

    monkeypatch.setattr(tracking, "time", SimpleNamespace(thread_time=thread_time))
    return spent


@pytest.fixture
def trackers(cost: SimpleNamespace, lines: Any) -> Tracking:
    return Tracking(load(ARGUMENTS))


def test_who_is_tracked(trackers: Tracking) -> None:
    """The busy with much memory are, the largest first, and as many as may be."""
    some = [candidate(0, 20), candidate(1, 90), candidate(2, 50)]
    others = [candidate(3, cpu=0.0), candidate(4, (WORTH >> 20) - 1)]
    others += [candidate(5, cpu=math.inf)]
    trackers.most = 2
    known = [one for one, _ in (*some, *others)]
    passed(trackers, known, 0, 1)
    assert [process.n_looks for _, process in some] == [0, 1, 0]
    passed(trackers, known, 1, 10)
    assert [process.n_looks for _, process in (*some, *others)] == [0, 1, 1, 0, 0, 0]
    # Who is tracked stays, unless another is twice as large.
    some[0][0].status = replace(EMPTY, anonymous=99 * MIB)
    passed(trackers, known, 10, 14)
    assert some[0][1].n_looks == 0
    some[0][0].status = replace(EMPTY, anonymous=101 * MIB)
    passed(trackers, known, 14, 15)
    assert (some[0][1].n_looks, some[2][1].n_closed) == (1, 1)


def test_looks_are_few(trackers: Tracking) -> None:
    """There are four in the time of the option, one at a time."""
    one, process = candidate(0)
    passed(trackers, [one], 0, 60)
    assert process.n_looks == 4
    one.cpu = 0.0  # it is idle: as a whole it can go
    passed(trackers, [one], 60, 120)
    assert (process.n_looks, process.n_closed) == (4, 0)


def test_looks_cost_little(trackers: Tracking, cost: SimpleNamespace) -> None:
    """Looks take no more than their share of a CPU; so long the others wait."""
    cost.seconds = 0.02
    some = [candidate(number) for number in range(30)]
    passed(trackers, [one for one, _ in some], 0, 100)
    assert sum(process.n_looks for _, process in some) == 25
    assert trackers.spent == pytest.approx(0.5)


def test_a_look_that_takes_long(
    trackers: Tracking, cost: SimpleNamespace, lines: list[dict[str, Any]]
) -> None:
    """Who would be held up longer than --max-stall is not tracked, with the remedy."""
    cost.seconds = 0.04
    one, process = candidate(0)
    passed(trackers, [one], 0, 300)
    assert (process.n_looks, process.n_closed) == (1, 1)
    (line,) = lines
    assert (line["event"], line["errno"], line["pid"]) == (
        "refused",
        "ETIME",
        one.process.pid,
    )
    assert "--max-stall" in line["message"]


def test_a_refusal(trackers: Tracking, lines: list[dict[str, Any]]) -> None:
    """Who is tracked by somebody else is asked again, seldom; it is told of once."""
    one, process = candidate(0)
    process.error = OSError(errno.EBUSY, "another Tracker")
    passed(trackers, [one], 0, 1300)
    assert [(line["event"], line["errno"]) for line in lines] == [("refused", "EBUSY")]
    assert (one.refused, one.until) == ("", -math.inf)  # as a whole it may go
    process.error = None
    passed(trackers, [one], 1300, 1900)
    assert process.n_looks > 0


def test_another_program(trackers: Tracking, lines: list[dict[str, Any]]) -> None:
    """After an exec it is new, and tracked from then on."""
    one, process = candidate(0)
    passed(trackers, [one], 0, 2)
    process.error = ProcessLookupError()
    passed(trackers, [one], 2, 20)
    assert (process.n_closed, process.n_maps, one.cpu) == (1, 1, math.inf)
    process.error, one.cpu, one.asked = None, 0.5, math.inf
    passed(trackers, [one], 20, 40)
    assert (process.n_looks, lines) == (2, [])


def test_its_own_errors(trackers: Tracking, lines: list[dict[str, Any]]) -> None:
    """They are not booked on the process."""
    one, process = candidate(0)
    process.error = OSError(errno.EMFILE, "none is free")
    passed(trackers, [one], 0, 20)
    assert [line["event"] for line in lines] == ["error"]
    process.error = None
    passed(trackers, [one], 20, 40)
    assert process.n_looks > 0


def test_a_tracker_lives_as_long_as_its_process(trackers: Tracking) -> None:
    """It is closed once the process is not watched any more, and at the end."""
    (one, process), (other, other_process) = candidate(0), candidate(1)
    passed(trackers, [one, other], 0, 3)
    trackers.choose([other], 3)
    assert (process.n_closed, other_process.n_closed) == (1, 0)
    trackers.close()
    assert other_process.n_closed == 1


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trackers: Tracking) -> Any:
    """A full cgroup, of which a sleeping and a busy process may go."""
    found = SimpleNamespace(
        group=Cgroup(str(FakeCgroup(tmp_path / "a").path)), asked=[]
    )
    found.relief = Relief(trackers.options, lambda: False)
    found.relief.tracking = trackers
    (sleeping, _), (busy, found.process) = candidate(0, 16, 0.0), candidate(1)
    found.busy = busy
    found.group.known.update({0: sleeping, 1: busy})

    def advise_each(processes: list[Any], *_: Any, **options: Any) -> Any:
        ranges, budget = options["select"](processes[0]), options["budget"]
        found.asked.append((processes[0].pid - (1 << 22), ranges, budget))
        before = processes[0].status()
        n_bytes = min(before.rss // 2, budget)
        out = replace(before, rss=before.rss - n_bytes, swap=n_bytes)
        processes[0].next = out
        report = Report(21, n_bytes, n_bytes, (), 1, 0.1, 0.1, "budget", before, out)
        return [(processes[0], report)]

    monkeypatch.setattr(relief, "advise_each", advise_each)
    monkeypatch.setattr(relief, "swap", lambda: Swap(1 << 30, 1 << 30, True))
    monkeypatch.setattr(relief, "time", SimpleNamespace(monotonic=lambda: 0.0))
    passed(trackers, [busy], 0, 1)
    return found


def test_whole_processes_first(group: Any, lines: list[dict[str, Any]]) -> None:
    """Of the busy goes what is missing then, and only what is idle."""
    fill = Fill("/a", 84 * MIB, 80 * MIB)  # to 80 %: 20 MiB
    assert group.relief.relieve(group.group, 10.0, fill, "watermark")
    assert group.asked == [(0, None, 20 * MIB), (1, IDLE, 12 * MIB)]
    assert (lines[0]["advised"], lines[0]["idle_ranges"]) == (20 * MIB, 12 * MIB)
    ranges = [line.get("idle_ranges") for line in lines[0]["processes"]]
    assert ranges == [12 * MIB, None]


def test_whole_processes_may_be_enough(group: Any, lines: list[dict[str, Any]]) -> None:
    """Then nothing of the busy goes."""
    fill = Fill("/a", 72 * MIB, 80 * MIB)
    assert group.relief.relieve(group.group, 10.0, fill, "watermark")
    assert ([pid for pid, *_ in group.asked], lines[0]["idle_ranges"]) == ([0], 0)


@pytest.mark.parametrize(
    "fields", [{"until": 99.0}, {"important": "realtime"}, {"cpu": 0.0}]
)
def test_who_stays_stays(group: Any, fields: dict[str, Any]) -> None:
    """Nothing of those goes that would stay if they slept; a sleeper goes whole."""
    for name, value in fields.items():
        setattr(group.busy, name, value)
    fill = Fill("/a", 84 * MIB, 80 * MIB)
    group.relief.relieve(group.group, 10.0, fill, "watermark")
    assert [ranges for pid, ranges, _ in group.asked if pid] in ([], [None])


def test_nothing_idle(group: Any, lines: list[dict[str, Any]]) -> None:
    """A process whose idle memory was touched is busy, and not asked until a look."""
    group.process.idle = Ranges()
    del group.group.known[0]
    fill = Fill("/a", 84 * MIB, 80 * MIB)
    for now in (10.0, 14.0):
        assert not group.relief.relieve(group.group, now, fill, "watermark")
    assert (group.asked, lines[0]["reasons"]) == ([], {"busy": 1})
    assert group.relief.tracking.ready([group.busy], 14.0) == []


def test_what_comes_back_doubles_the_rest(
    group: Any, lines: list[dict[str, Any]]
) -> None:
    """The process rests as one that woke does, and nothing more is read back in."""
    del group.group.known[0]
    fill = Fill("/a", 84 * MIB, 80 * MIB)
    for number, now in enumerate((10.0, 60.0)):
        group.relief.relieve(group.group, now, fill, "watermark")
        group.process.next = replace(group.process.next, rss=64 * MIB, swap=0)
        group.relief.look(group.busy, now + 0.1, 64 * MIB)
        assert group.busy.until == now + 0.1 + BACKOFF * 2**number
        group.busy.cpu = 0.5
        passed(group.relief.tracking, [group.busy], int(now) + 20, int(now) + 22)
    woke = [line["read"] for line in lines if line["event"] == "woke"]
    assert woke == [None, None]
    assert len(group.asked) == 2


def test_descriptors(tmp_path: Path) -> None:
    """Those of the trackers are not promised to handles."""
    full = FakeCgroup(tmp_path / "a", memory_current=1, memory_max=2)
    with looking(full.path) as off, looking(full.path, "--idle-ranges=5min") as on:
        n_off, n_on = (loop.daemon.groups[0].most for loop in (off, on))
        assert n_off - n_on in (0, MOST // 2)  # 0: more than are ever watched
        assert off.daemon.relief.tracking is None
        on.daemon.use(off.daemon.options)
        assert on.daemon.relief.tracking is None


def test_an_account_without_the_option() -> None:
    """The log is as it was."""
    account = Account(Counter(), has_ranges=False)
    one, process = candidate(0)
    report = Report(21, 9, 9, (), 1, 0.1, 0.1, "complete", process.next, process.next)
    account.add(one, report, 5, is_busy=False)
    assert [*account.fields()] == ["advised", "freed", "processes"]


def test_the_tracker_is_not_loaded() -> None:
    """Without the option nothing is imported for it."""
    code = f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r}); import relief"
    code += "; sys.exit('pmadvise.idle' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": IMPORT_PATH, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0
