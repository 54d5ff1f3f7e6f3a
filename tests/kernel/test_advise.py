"""Process.advise() and the default selections, on real targets."""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.targets import LRU_BATCH, MIB, PAGE, Target, send, wait_for_state
from test_calls import resident_pages

from pmadvise import Advice, Process, Ranges, Report

pytestmark = pytest.mark.needs_root
GIB = 1 << 30


@pytest.fixture
def process(target: Target) -> Iterator[Process]:
    """The target's Process."""
    with Process(target.pid) as process:
        yield process


def by_errno(report: Report) -> dict[int, Ranges]:
    """Return what was skipped, merged, by errno."""
    return {
        number: Ranges(
            (s.address, s.length) for s in report.skipped if s.errno == number
        ).merged()
        for number in {s.errno for s in report.skipped}
    }


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
    assert by_errno(report) == {
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
    address = target.run(f"map({6 * GIB}, flags=0x4022)")
    size = 6 * GIB // parts
    ranges = [(address + i * size, size) for i in range(parts)]
    report = process.advise(ranges, Advice.COLD, max_stall=max_stall)
    assert (report.advised, report.skipped) == (6 * GIB, ())


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_every_vma_at_once(target: Target, process: Process, order: str) -> None:
    """All that maps shows, [vsyscall] among it, in any order: each byte is told."""
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
    """One range over the whole of user space is mostly holes, and is told exactly."""
    end = (1 << 47) - PAGE
    report = process.advise([(0, end)], Advice.COLD)
    mapped = process.maps().select() & Ranges([(0, end)])
    assert (report.ended, report.not_tried) == ("complete", 0)
    assert by_errno(report)[errno.ENOMEM] == Ranges([(0, end)]) - mapped


def test_cold_default(target: Target, process: Process) -> None:
    """cold() makes all private anonymous memory unreferenced, and nothing else."""
    address = target.filled(16 * MIB)
    anonymous = process.maps().select(anonymous=True, private=True).total
    report = process.cold()
    assert (report.requested, report.advised) == (anonymous, anonymous)
    assert (report.advice, report.ended) == (Advice.COLD, "complete")
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    assert target.intact(address, 16 * MIB)


@pytest.mark.needs_swap
def test_pageout_default(target: Target, process: Process) -> None:
    """pageout() moves what is in memory to swap, and measure shows it."""
    address = target.filled(32 * MIB)
    target.run("map(1 << 36, flags=0x4022)")
    report = process.pageout(measure=True)
    assert report.before is not None
    assert report.after is not None
    assert report.requested <= report.before.anonymous
    assert report.after.swap - report.before.swap >= 31 * MIB
    assert report.before.rss - report.after.rss >= 31 * MIB
    assert process.swapped(Ranges([(address, 32 * MIB)])).total >= 31 * MIB
    assert target.intact(address, 32 * MIB)


def test_pageout_leaves_executable_memory(target: Target, process: Process) -> None:
    """pageout() does not select what may be executed."""
    address = target.filled(MIB, ", prot=7")
    report = process.pageout(budget=0)
    everything = process.resident(process.maps().select(anonymous=True, private=True))
    assert everything.total - report.requested >= MIB
    assert process.cold().requested >= report.requested + MIB
    assert target.intact(address, MIB)


def test_default_leaves_locked_memory(target: Target, process: Process) -> None:
    """What is locked is not selected, so that nothing is skipped."""
    address = target.filled(MIB)
    target.run(f"lock({address}, {MIB})")
    report = process.cold()
    anonymous = process.maps().select(anonymous=True, private=True).total
    assert (report.skipped, anonymous - report.requested) == ((), MIB)


@pytest.mark.needs_swap
def test_willneed_default(target: Target, process: Process) -> None:
    """willneed() reads back from swap without a fault of the target."""
    address = target.filled(8 * MIB)
    process.pageout()
    report = process.willneed()
    assert report.ended == "complete"
    assert report.advised == report.requested >= 8 * MIB
    assert target.intact(address, 8 * MIB)


def test_willneed_of_a_large_file(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """WILLNEED reads all of a file, where one range of it would be cut to readahead."""
    size = 48 * MIB
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), size) as view:
            assert resident_pages(view) == 0
            address = target.run(f"map({size}, 1, 1, os.open({str(path)!r}, 0))")
            assert process.willneed([(address, size)]).advised == size
            done = threading.Event()
            for _ in range(10_000):
                if resident_pages(view) == size // PAGE:
                    break
                done.wait(0.001)  # the disk reads by itself
            assert resident_pages(view) == size // PAGE


def test_collapse_default(target: Target, process: Process) -> None:
    """collapse() makes huge pages of whole ones, and leaves the odd ends."""
    pmd = int(Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").read_text())
    address = target.run(f"map({4 * pmd})")
    target.run("libc.prctl(41, 1, 0, 0, 0)")  # PR_SET_THP_DISABLE
    target.run(f"fill({address}, {4 * pmd})")
    target.run("libc.prctl(41, 0, 0, 0, 0)")
    report = process.collapse()
    assert report.requested % pmd == 0
    assert target.smaps(address, "AnonHugePages") >= 3 * pmd
    assert target.intact(address, 4 * pmd)


def test_budget_of_resident_memory(target: Target, process: Process) -> None:
    """A budget of 64 MiB pays for 64 MiB in memory, however much is mapped."""
    address = target.run(f"map({GIB}, flags=0x4022)")
    for i in range(0, 1024, 8):  # one in eight MiB, 128 MiB in all
        target.run(f"fill({address + i * MIB}, {MIB})")
    before = target.smaps(address, "Referenced")
    report = process.cold([(address, GIB)], budget=64 * MIB)
    assert report.ended == "budget"
    touched = before - target.smaps(address, "Referenced")
    assert 64 * MIB - LRU_BATCH <= touched <= 64 * MIB + PAGE
    assert report.advised + report.not_tried == GIB
    assert 504 * MIB < report.advised <= 513 * MIB


@pytest.mark.parametrize("explicit", [False, True])
def test_exec_between_snapshot_and_advice(
    target: Target, process: Process, explicit: bool
) -> None:
    """After an exec nothing is advised, until maps() is called again."""
    address = target.filled(MIB)
    space = process.maps()
    target.exec_again()
    report = process.cold([(address, MIB)] if explicit else None)
    assert (report.ended, report.advised, report.calls) == ("exec", 0, 0)
    assert report.requested == report.not_tried
    assert space.stale
    process.maps()
    assert process.cold().ended == "complete"


def test_exec_while_advising(target: Target, process: Process) -> None:
    """An exec between two calls ends it; the account is of what was before."""
    address = target.run(f"map({4 * GIB}, flags=0x4022)")
    execs = iter([target.exec_again])
    report = process.cold(
        [(address, 4 * GIB)],
        max_stall=None,
        on_progress=lambda done, total: next(execs, lambda: None)(),
    )
    assert (report.ended, report.calls) == ("exec", 1)
    assert report.advised + report.not_tried == 4 * GIB


def test_exit_while_advising(target: Target, process: Process) -> None:
    """The end of the target ends it."""
    address = target.run(f"map({4 * GIB}, flags=0x4022)")
    report = process.cold(
        [(address, 4 * GIB)],
        max_stall=None,
        on_progress=lambda done, total: target.kill(),
    )
    assert (report.ended, report.calls) == ("exited", 1)


@pytest.mark.parametrize("explicit", [False, True])
def test_gone_before_the_first_call(
    target: Target, process: Process, explicit: bool
) -> None:
    """A process that is gone is ProcessLookupError, and stays so."""
    target.kill()
    for _ in range(2):
        with pytest.raises(ProcessLookupError):
            process.cold([(0, PAGE)] if explicit else None)


@pytest.mark.parametrize("advice", [a for a in Advice if not a.remote] + [99, -1])
def test_advice_not_for_others(process: Process, advice: int) -> None:
    """What is not for other processes is refused before the kernel is asked."""
    with pytest.raises(ValueError, match="not for another process"):
        process.advise([(0, PAGE)], advice)
    with pytest.raises(ValueError, match="not for another process"):
        process.check(advice)


def test_unaligned(process: Process) -> None:
    """An unaligned address is refused with its index."""
    with pytest.raises(ValueError, match=rf"ranges\[1\]: address {PAGE + 1:#x}"):
        process.cold([(0, PAGE), (PAGE + 1, PAGE)])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_stall": 0}, ValueError, "max_stall"),
        ({"budget": -1}, ValueError, "budget -1"),
        ({"budget": "1"}, TypeError, ""),
        ({"wrong": 1}, TypeError, "wrong"),
    ],
)
@pytest.mark.parametrize("explicit", [False, True])
def test_options_refused(
    process: Process,
    options: Any,
    error: type[Exception],
    words: str,
    explicit: bool,
) -> None:
    """Options that are wrong are refused before anything is done."""
    with pytest.raises(error, match=words or None):
        process.cold([(0, PAGE)] if explicit else None, **options)


def test_empty(process: Process) -> None:
    """Nothing asked is a report of nothing."""
    report = process.advise([], Advice.COLD)
    assert (report.requested, report.calls, report.ended) == (0, 0, "complete")
    json.dumps(report.to_dict())


def test_overlaps_count_twice(target: Target, process: Process) -> None:
    """Ranges are asked as given: order kept, overlaps counted twice, odd lengths."""
    address = target.filled(4 * PAGE)
    asked = [(address, 4 * PAGE), (address, 3 * PAGE + 1)]
    assert process.advise(asked, Advice.COLD).advised == 7 * PAGE + 1


def test_remapped_while_advising(target: Target, process: Process) -> None:
    """What the target unmaps while it is advised is skipped, and the rest goes on."""
    address = target.run(f"map({4 * GIB}, flags=0x4022)")
    steps = iter([f"unmap({address + 3 * GIB}, {GIB // 2})"])
    report = process.cold(
        [(address, 4 * GIB)],
        max_stall=None,
        on_progress=lambda done, total: [target.run(step) for step in steps],
    )
    assert report.advised == 4 * GIB - GIB // 2
    assert by_errno(report) == {errno.ENOMEM: Ranges([(address + 3 * GIB, GIB // 2)])}


def test_keyboard_interrupt(target: Target, process: Process) -> None:
    """Ctrl-C goes through between calls, with the report so far."""
    address = target.run(f"map({4 * GIB}, flags=0x4022)")
    with pytest.raises(KeyboardInterrupt) as caught:
        process.cold(
            [(address, 4 * GIB)],
            max_stall=None,
            on_progress=lambda done, total: signal.raise_signal(signal.SIGINT),
        )
    report: Report = caught.value.report  # type: ignore[attr-defined]
    assert (report.calls, report.ended) == (1, "cancelled")
    assert report.advised + report.not_tried == 4 * GIB


def test_cancelled_by_another_thread(target: Target, process: Process) -> None:
    """An Event ends it between calls."""
    address = target.run(f"map({4 * GIB}, flags=0x4022)")
    cancel = threading.Event()
    report = process.cold(
        [(address, 4 * GIB)],
        cancel=cancel,
        on_progress=lambda done, total: threading.Thread(target=cancel.set).run(),
    )
    assert (report.ended, report.calls) == ("cancelled", 1)


def test_own_process() -> None:
    """The own process is a process like others."""
    with Process(os.getpid()) as own:
        assert own.cold().ended == "complete"


def test_stopped_target(target: Target, process: Process) -> None:
    """A stopped target is advised whole: nothing asks it to run."""
    address = target.filled(8 * MIB)
    send(target.pidfd, signal.SIGSTOP)
    wait_for_state(target.pid, "T")
    assert process.cold().ended == "complete"
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    send(target.pidfd, signal.SIGCONT)


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
def test_hold_fresh_snapshot_advise(
    target: Target, process: Process, method: str
) -> None:
    """A hold, fresh maps and an advise have no race: nothing changes in between."""
    target.run(
        "threading.Thread(target=lambda:"
        " [unmap(map(PAGE), PAGE) for _ in iter(int, 1)], daemon=True).start()"
    )
    for _ in range(20):
        with process.hold(method, timeout=10):
            space = process.maps()
            report = process.cold(space.select(anonymous=True, private=True))
            assert (report.ended, report.skipped) == ("complete", ())
            assert space.changed() == Ranges()
