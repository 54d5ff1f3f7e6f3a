"""The option --idle-ranges of docs/examples/pressured, on a real busy process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.daemon import FULL, Daemon, FakeCgroup, started
from helpers.targets import MIB, Target
from helpers.waiting import until

SIZE = 32 * MIB
NO_FLOOR = ("--swap-floor", 0)
PAUSE = "time.sleep(0.002)"
"""Leaves CPU and GIL to others; what is busy uses a fiftieth of a CPU and more."""

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_swap]


class Busy(NamedTuple):
    """A process that works on one mapping, and has another that it does not use."""

    target: Target
    hot: int
    cold: int
    group: FakeCgroup

    def swapped(self, address: int) -> int:
        """Return the bytes of a mapping in swap."""
        return self.target.smaps(address, "Swap")


@pytest.fixture
def busy(target: Target, tmp_path: Path) -> Iterator[Busy]:
    hot, cold = target.filled(SIZE), target.filled(SIZE)
    target.run(f"forever(lambda: {PAUSE} or look({hot}, range(0, {SIZE >> 12}, 64)))")
    group = FakeCgroup(tmp_path / "group", target.pid, **FULL)
    yield Busy(target, hot, cold, group)
    target.run("stop.acquire()")


@pytest.fixture
def watch(busy: Busy, tmp_path: Path) -> Iterator[Daemon]:
    option = ("--idle-ranges", "2s")
    with started(busy.group.path, tmp_path, *NO_FLOOR, *option) as running:
        yield running


def test_the_cold_goes_the_hot_stays(busy: Busy, watch: Daemon) -> None:
    """What it does not use goes to swap, as far as is needed; what it uses does not."""
    assert watch.lines[0]["idle_ranges"] == 2.0
    line = watch.event("relieved")
    (one,) = line["processes"]
    assert (one["pid"], one["idle_ranges"]) == (busy.target.pid, line["idle_ranges"])
    assert line["idle_ranges"] == line["advised"] >= line["freed"] > MIB
    assert line["advised"] <= 16 * MIB  # from 95 % to 80 % of 100 MiB
    until(lambda: busy.swapped(busy.cold) > 4 * MIB, "the cold mapping is in swap")
    assert busy.swapped(busy.hot) == 0
    assert watch.metric("pressured_trackers") == 1
    idle = "pressured_idle_range_bytes_total"
    advised = 'pressured_advised_bytes_total{advice="PAGEOUT"}'
    until(  # it may act once more in between
        lambda: watch.metric(idle) == watch.metric(advised) > MIB, "idle ranges alone"
    )
    assert busy.target.intact(busy.cold, SIZE)
    assert watch.events("error") + watch.events("refused") == []


def test_what_comes_back_makes_it_rest(busy: Busy, watch: Daemon) -> None:
    """Once its idle memory is touched after all, the process is left alone."""
    watch.event("relieved")  # and not in the middle of it
    until(lambda: busy.swapped(busy.cold) > 4 * MIB, "the cold mapping is in swap")
    assert busy.target.intact(busy.cold, SIZE)
    woke = watch.event("woke")
    assert (woke["pid"], woke["back"] >= MIB) == (busy.target.pid, True)
    assert woke["read"] is None  # nothing else of it is read back
    assert watch.metric('pressured_advised_bytes_total{advice="WILLNEED"}') == 0
    until(lambda: watch.metric("pressured_backoffs") == 1, "it is left alone")


def test_it_is_off_by_default(busy: Busy, tmp_path: Path) -> None:
    """Nothing of a busy process goes."""
    with started(busy.group.path, tmp_path, *NO_FLOOR) as running:
        assert running.event("nobody")["reasons"] == {"busy": 1}
        assert "idle_ranges" not in running.lines[0]
        assert running.metric("pressured_trackers") == 0
    assert busy.swapped(busy.cold) == 0


def test_another_program_is_tracked_anew(target: Target, tmp_path: Path) -> None:
    """An exec ends the tracking of the old memory, and is no error."""
    group = FakeCgroup(tmp_path / "group", target.pid, **FULL)
    option = ("--idle-ranges", "2s")
    with started(group.path, tmp_path, *NO_FLOOR, *option) as running:
        for number in range(2):
            target.filled(SIZE)
            target.run(f"forever(lambda: {PAUSE} or sum(range(20_000)))")
            until(lambda: target.status("VmSwap") > MIB, "what is cold is in swap")
            assert running.metric("pressured_trackers") == 1
            if not number:
                target.exec_again()
        assert running.events("error") + running.events("refused") == []
