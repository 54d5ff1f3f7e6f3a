"""The account of Process.advise(), on real targets."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
from typing import Any

import pytest
from helpers.reports import skipped_by_errno
from helpers.targets import GIB, LRU_BATCH, MIB, PAGE, Target, send_signal
from helpers.waiting import wait_for_state

from pmadvise import Advice, Process, Ranges

pytestmark = pytest.mark.needs_root

USER_END = 1 << 47


@pytest.mark.parametrize("parts", [1, 5, 100])
@pytest.mark.parametrize("advice", [Advice.COLD, Advice.PAGEOUT])
def test_hole_and_locked(
    target: Target, process: Process, parts: int, advice: Advice
) -> None:
    """A hole and a locked mapping are skipped exactly, however they are asked for."""
    address = target.filled(100 * PAGE)
    target.run(f"unmap({address + 40 * PAGE}, {5 * PAGE})")
    target.run(f"lock({address + 60 * PAGE}, {20 * PAGE})")
    size = 100 * PAGE // parts
    report = process.advise([(address + i * size, size) for i in range(parts)], advice)
    assert skipped_by_errno(report) == {
        errno.ENOMEM: Ranges([(address + 40 * PAGE, 5 * PAGE)]),
        errno.EINVAL: Ranges([(address + 60 * PAGE, 20 * PAGE)]),
    }
    assert (report.advised, report.ended) == (75 * PAGE, "complete")
    assert (report.requested, report.not_tried) == (100 * PAGE, 0)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("max_stall", [None, 0.05])
def test_six_gib(
    target: Target, process: Process, parts: int, max_stall: float | None
) -> None:
    """6 GiB are advised whole, where one call would be cut at 2."""
    address = target.reserved(6 * GIB)
    size = 6 * GIB // parts
    ranges = [(address + i * size, size) for i in range(parts)]
    report = process.advise(ranges, Advice.COLD, max_stall=max_stall)
    assert (report.advised, report.skipped) == (6 * GIB, ())


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_every_vma_at_once(target: Target, process: Process, order: str) -> None:
    """Every mapping, [vsyscall] too, in any order: each byte is in the account."""
    target.filled(MIB)
    ranges = [(vma.start, vma.length) for vma in process.maps()]
    if order == "down":
        ranges.reverse()
    elif order == "shuffled":
        random.Random(5).shuffle(ranges)
    report = process.advise(ranges, Advice.COLD)
    assert (report.ended, report.not_tried) == ("complete", 0)
    special = {v.start: v.path for v in process.maps() if v.path.startswith("[v")}
    refused = {special.get(skip.address): skip.errno for skip in report.skipped}
    assert refused.pop("[vsyscall]", errno.EFAULT) == errno.EFAULT
    assert set(refused) <= {"[vvar]", "[vvar_vclock]", "[vdso]"}
    assert set(refused.values()) == {errno.EINVAL}


def test_one_range_over_everything(target: Target, process: Process) -> None:
    """One range over all of user space is mostly holes, and the account is exact."""
    end = USER_END - PAGE
    report = process.advise([(0, end)], Advice.COLD)
    mapped = process.maps().select() & Ranges([(0, end)])
    assert (report.ended, report.not_tried) == ("complete", 0)
    assert skipped_by_errno(report)[errno.ENOMEM] == Ranges([(0, end)]) - mapped


def test_empty(process: Process) -> None:
    """With nothing asked there is a report of nothing."""
    report = process.advise([], Advice.COLD)
    assert (report.requested, report.calls, report.ended) == (0, 0, "complete")
    json.dumps(report.to_dict())


def test_overlaps_count_twice(target: Target, process: Process) -> None:
    """Ranges are asked as given: order kept, overlaps counted twice, odd lengths."""
    address = target.filled(4 * PAGE)
    asked = [(address, 4 * PAGE), (address, 3 * PAGE + 1)]
    assert process.advise(asked, Advice.COLD).advised == 7 * PAGE + 1


def test_remapped_while_advising(target: Target, process: Process) -> None:
    """Memory that the target unmaps meanwhile is skipped, and the rest goes on."""
    address = target.reserved(4 * GIB)
    steps = iter([f"unmap({address + 3 * GIB}, {GIB // 2})"])
    report = process.cold(
        [(address, 4 * GIB)],
        max_stall=None,
        on_progress=lambda done, total: [target.run(step) for step in steps],
    )
    assert report.advised == 4 * GIB - GIB // 2
    assert skipped_by_errno(report) == {
        errno.ENOMEM: Ranges([(address + 3 * GIB, GIB // 2)])
    }


def test_budget_of_resident_memory(target: Target, process: Process) -> None:
    """A budget of 64 MiB pays for 64 MiB in memory, however much is mapped."""
    address = target.reserved(GIB)
    for i in range(0, 1024, 8):  # one in eight MiB, 128 MiB in all
        target.run(f"fill({address + i * MIB}, {MIB})")
    before = target.smaps(address, "Referenced")
    report = process.cold([(address, GIB)], budget=64 * MIB)
    assert report.ended == "budget"
    touched = before - target.smaps(address, "Referenced")
    assert 64 * MIB - LRU_BATCH <= touched <= 64 * MIB + PAGE
    assert report.advised + report.not_tried == GIB
    assert 504 * MIB < report.advised <= 513 * MIB


def test_unaligned(process: Process) -> None:
    """An unaligned address is refused with its index."""
    with pytest.raises(ValueError, match=rf"ranges\[1\]: address {PAGE + 1:#x}"):
        process.cold([(0, PAGE), (PAGE + 1, PAGE)])


@pytest.mark.parametrize("advice", [a for a in Advice if not a.remote] + [99, -1])
def test_advice_not_for_others(process: Process, advice: int) -> None:
    """An advice that another process never takes is refused."""
    with pytest.raises(ValueError, match="not for another process"):
        process.advise([(0, PAGE)], advice)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_stall": 0}, ValueError, "max_stall"),
        ({"budget": -1}, ValueError, "budget -1"),
        ({"max_stall": float("nan")}, ValueError, "max_stall nan"),
        ({"budget": "1"}, TypeError, "budget '1'"),
        ({"budget": 5000.5}, TypeError, r"budget 5000\.5"),
        ({"timeout": float("nan")}, ValueError, "timeout nan"),
        ({"cancel": 1}, TypeError, "cancel 1"),
        ({"wrong": 1}, TypeError, "wrong"),
    ],
)
@pytest.mark.parametrize("explicit", [False, True])
def test_options_refused(
    target: Target,
    process: Process,
    options: Any,
    error: type[Exception],
    words: str,
    explicit: bool,
) -> None:
    """Wrong options are refused before anything is advised."""
    address = target.filled(64 * PAGE)
    with pytest.raises(error, match=words):
        process.cold([(address, 64 * PAGE)] if explicit else None, **options)
    assert target.smaps(address, "Referenced") == 64 * PAGE


def test_own_process() -> None:
    """The own process is a process like others."""
    with Process(os.getpid()) as own:
        assert own.cold().ended == "complete"


def test_stopped_target(target: Target, process: Process) -> None:
    """A stopped target is advised whole: nothing asks it to run."""
    address = target.filled(8 * MIB)
    send_signal(target.pidfd, signal.SIGSTOP)
    wait_for_state(target.pid, "T")
    assert process.cold().ended == "complete"
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    send_signal(target.pidfd, signal.SIGCONT)


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
def test_hold_fresh_snapshot_advise(
    target: Target, process: Process, method: str
) -> None:
    """A hold, fresh maps and an advise have no race: nothing changes in between."""
    target.run("forever(lambda: unmap(map(PAGE), PAGE))")
    for _ in range(20):
        with process.hold(method, timeout=10):
            space = process.maps()
            report = process.cold(space.select(anonymous=True, private=True))
            assert (report.ended, report.skipped) == ("complete", ())
            assert space.changed() == Ranges()


@pytest.mark.parametrize("max_stall", [float("inf"), 10**400, 1e-300])
def test_extreme_stalls(target: Target, process: Process, max_stall: float) -> None:
    """However long or short a stall is allowed, everything is advised."""
    address = target.filled(MIB)
    report = process.cold([(address, MIB)], max_stall=max_stall)
    assert (report.advised, report.ended) == (MIB, "complete")
