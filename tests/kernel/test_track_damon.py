"""Tracking by DAMON, whose sysfs interface is scripted."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fake_damon import FakeDamon, installed
from helpers.targets import MIB, PAGE, Target, exec_shell

import pmadvise
from pmadvise import Process, Ranges
from pmadvise._idle import damon
from pmadvise._reasons import idle as reasons

SIZE = 4 * MIB


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeDamon]:
    """DAMON in a directory."""
    yield from installed(monkeypatch, tmp_path)


def number(fake: FakeDamon) -> int:
    """Return the number of kdamonds."""
    return int((fake.root / "nr_kdamonds").read_text())


def test_regions_that_were_not_touched(
    target: Target, process: Process, fake: FakeDamon
) -> None:
    """What survived all windows since the last look is idle; the rest is younger."""
    area = target.filled(SIZE)
    whole = Ranges([(area, SIZE)])
    touched = Ranges([(area + MIB, PAGE)])
    with process.track("damon") as tracker:
        assert tracker.source == "damon"
        assert fake.of_kdamond("state").read_text() == "on\n"
        assert int(fake.of_kdamond("contexts/0/targets/0/pid_target").read_text()) == (
            target.pid
        )
        fake.touched = touched
        tracker.look()
        once = tracker.idle(tracker.ages()[1][0]) & whole
        assert (once & touched).total == 0
        assert once.total >= SIZE - 2 * tracker.grain
        tracker.look()
        assert tracker.idle(tracker.ages()[1][0]) & whole == whole
        assert tracker.idle(tracker.ages()[2][0]) & whole == once
        assert tracker.grain % PAGE == 0
    assert (number(fake), fake.starts) == (0, 1)


def test_new_memory_gets_a_new_grid(
    target: Target, process: Process, fake: FakeDamon
) -> None:
    """Memory that grows is watched from the next look on, and the old stays known."""
    old = Ranges([(target.filled(SIZE), SIZE)])
    with process.track("damon") as tracker:
        tracker.look()
        new = Ranges([(target.filled(2 * SIZE), 2 * SIZE)])
        tracker.look()
        assert fake.starts == 2
        assert tracker.idle(tracker.ages()[2][0]) & (old | new) == old
        tracker.look()
        assert tracker.idle(tracker.ages()[1][0]) & (old | new) == old | new


def test_the_grid_leaves_the_lowest_pages_to_the_sentinel(
    target: Target, process: Process, fake: FakeDamon
) -> None:
    """A page at address 0, which nobody has, counts the windows."""
    with process.track("damon"):
        assert sorted(fake.ages)[0] == (0, PAGE)
        assert all(start >= 2 * PAGE for start, _ in sorted(fake.ages)[1:])


def test_after_an_exec_and_the_exit(
    target: Target, process: Process, fake: FakeDamon
) -> None:
    """The kdamond ends with its process: that is what is told."""
    with process.track("damon") as tracker:
        exec_shell(target)
        with pytest.raises(ProcessLookupError, match="exec"):
            tracker.look()
    process.maps()
    with process.track("damon") as tracker:
        target.kill()
        fake.of_kdamond("state").write_text("off\n")
        with pytest.raises(ProcessLookupError, match="exited"):
            tracker.look()
    assert number(fake) == 0


def test_somebody_ends_it(target: Target, process: Process, fake: FakeDamon) -> None:
    """A source that is taken away is an error, and nothing is idle any more."""
    with process.track("damon") as tracker:
        tracker.look()
        fake.of_kdamond("state").write_text("off\n")
        with pytest.raises(OSError, match="DAMON does not work") as refused:
            tracker.look()
        assert refused.value.errno == errno.EINVAL
        assert tracker.idle(0) == Ranges()


@pytest.mark.parametrize(
    ("spoil", "number_of_error", "words"),
    [
        (
            lambda f: setattr(f, "operations", "paddr\n"),
            errno.EOPNOTSUPP,
            "without DAMON",
        ),
        (lambda f: setattr(f, "has_tried_regions", False), errno.ENOENT, "6.2"),
        (lambda f: f.write(f"{f.root}/nr_kdamonds", 1), errno.EBUSY, "somebody else"),
        (lambda f: setattr(f, "refuses_on", errno.EBUSY), errno.EBUSY, "somebody else"),
        (lambda f: (f.root / "nr_kdamonds").unlink(), errno.ENOENT, "without DAMON"),
    ],
    ids=["paddr alone", "before 6.2", "of others", "refused at its start", "none"],
)
def test_refusals(
    process: Process,
    fake: FakeDamon,
    spoil: object,
    number_of_error: int,
    words: str,
) -> None:
    """What can't be had is told with the reason, and nothing of others has changed."""
    assert callable(spoil)
    spoil(fake)
    before = sorted(fake.root.rglob("*"))
    with pytest.raises(OSError, match=words) as refused:
        process.track("damon")
    assert refused.value.errno == number_of_error
    assert sorted(fake.root.rglob("*")) == before
    with process.track() as tracker:  # the next source
        assert tracker.source in ("page_idle", "mappings")


def test_a_module_of_the_kernel(
    process: Process, fake: FakeDamon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DAMON_STAT is named, with its switch."""
    for module in (damon, reasons):
        monkeypatch.setattr(module, "running_module", lambda: "damon_stat")
    with pytest.raises(OSError, match=r"DAMON_STAT runs.*echo N > .*damon_stat") as why:
        process.track("damon")
    assert why.value.errno == errno.EBUSY
    assert str(pmadvise.support().idle["damon"]) in str(why.value)


def test_only_one_at_a_time(target: Target, process: Process, fake: FakeDamon) -> None:
    """A second tracker is refused, or takes the next source; then it may."""
    with process.track("damon"), Process(os.getpid()) as own:
        with pytest.raises(OSError, match="somebody else"):
            own.track("damon")
        assert not pmadvise.support().idle["damon"]
        own.track().close()
        assert number(fake) == 1
    assert pmadvise.support().idle["damon"]
    with Process(os.getpid()) as own, own.track("damon"):
        pass


def test_what_a_crash_has_left(process: Process, fake: FakeDamon) -> None:
    """The kdamond of a process that has gone is cleared away, if it was ours."""
    tracker = process.track("damon")
    watermarks = fake.of_kdamond("contexts/0/schemes/0/watermarks")
    (watermarks / "mid").write_text("1\n")  # the start of another process
    _, _, (lock, _), _ = tracker._source._put_back.detach()  # type: ignore[attr-defined]
    lock.close()
    tracker.close()
    assert number(fake) == 1
    with process.track("damon") as again:
        again.look()
    assert number(fake) == 0


def test_a_lost_tracker_puts_all_back(process: Process, fake: FakeDamon) -> None:
    """One that nobody refers to any more ends its kdamond; a fork of ours does not."""
    tracker = process.track("damon")
    pid = os.fork()
    if pid == 0:
        tracker.close()
        os._exit(number(fake))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    del tracker
    assert number(fake) == 0
