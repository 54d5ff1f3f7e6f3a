"""dry_run: the account of the real run, and no advice."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from helpers.children import value_of_child
from helpers.privileges import CAP_SYS_NICE, CAP_SYS_PTRACE, become_nobody_with
from helpers.targets import GIB, LRU_BATCH, MIB, PAGE, Target, furnish

from pmadvise import Advice, Process, Ranges, Report, Swap, advise_each, group

pytestmark = pytest.mark.needs_root

TIB = 1 << 40
REMOTE = ("cold", "pageout", "willneed", "collapse")


def account(report: Report) -> tuple[object, ...]:
    """Return the part of a report that a rehearsal has too."""
    return report.requested, report.advised, report.skipped, report.ended


def rehearsed(advise: Callable[..., Report], **options: object) -> Report:
    """Rehearse, then advise in truth; return the second report, as both are alike."""
    rehearsal = advise(dry_run=True, **options)
    assert (rehearsal.calls, rehearsal.longest_call) == (0, 0.0)
    report = advise(**options)
    assert account(rehearsal) == account(report)
    return report


@pytest.fixture
def furnished(target: Target) -> Target:
    """A target with memory of several kinds: locked, sparse, huge, shared."""
    furnish(target)
    huge = target.map(8 * MIB)
    target.run(f"madvise({huge}, {8 * MIB}, 14)")
    target.run(f"fill({huge}, {8 * MIB})")
    return target


@pytest.mark.parametrize("advice", REMOTE)
@pytest.mark.parametrize("max_stall", [None, 0.05, 1e-4])
def test_default_selection(
    furnished: Target, process: Process, advice: str, max_stall: float | None
) -> None:
    """Whatever the advice and the size of a call, the accounts are the same."""
    rehearsed(getattr(process, advice), max_stall=max_stall)


@pytest.mark.parametrize(
    "budget", [0, 1, PAGE, 5 * MIB, 8 * MIB + 3 * PAGE, 12 * MIB, GIB]
)
@pytest.mark.parametrize("advice", ["cold", "collapse"])
def test_budget(furnished: Target, process: Process, advice: str, budget: int) -> None:
    """A budget ends both at the same page."""
    rehearsed(getattr(process, advice), budget=budget)


@pytest.mark.needs_swap
@pytest.mark.parametrize("budget", [PAGE, 5 * MIB, 12 * MIB])
def test_budget_of_pageout(furnished: Target, process: Process, budget: int) -> None:
    """And so it does where memory leaves."""
    rehearsed(process.pageout, budget=budget)


def test_holes_and_locked_pages(target: Target, process: Process) -> None:
    """Holes, locked pages and addresses beyond user space are skipped as in truth."""
    start = target.filled(64 * PAGE)
    target.run(f"unmap({start + 8 * PAGE}, {4 * PAGE})")
    target.run(f"lock({start + 20 * PAGE}, {2 * PAGE})")
    ranges = [
        (start, 40 * PAGE),
        (start + 30 * PAGE, 10 * PAGE),
        (start + 10 * PAGE, PAGE),
        ((1 << 64) - 2 * PAGE, PAGE),
    ]
    report = rehearsed(lambda **options: process.cold(ranges, **options))
    assert [skip.errno for skip in report.skipped] == [
        *(errno.ENOMEM, errno.EINVAL, errno.ENOMEM, errno.EFAULT)
    ]


def test_nothing_is_advised(target: Target, process: Process) -> None:
    """Memory stays as it is: referenced, resident and small."""
    address = target.filled(4 * MIB)
    before = target.smaps(address, "Referenced"), target.smaps(address, "Rss")
    for advice in (Advice.COLD, Advice.PAGEOUT, Advice.COLLAPSE):
        process.advise([(address, 4 * MIB)], advice, dry_run=True)
    assert (target.smaps(address, "Referenced"), target.smaps(address, "Rss")) == before
    assert before == (4 * MIB, 4 * MIB)


def test_no_huge_pages_wanted(target: Target, process: Process) -> None:
    """COLLAPSE of memory that asked for small pages is refused in both."""
    address = target.map(4 * MIB)
    target.run(f"madvise({address}, {4 * MIB}, 15)")
    target.run(f"fill({address}, {4 * MIB})")
    ranges = [(address, 4 * MIB)]
    report = rehearsed(lambda **options: process.collapse(ranges, **options))
    assert {skip.errno for skip in report.skipped} == {errno.EINVAL}


def test_measure(target: Target, process: Process) -> None:
    """The state before is reported; there is nothing to compare it with."""
    target.filled(MIB)
    report = process.pageout(measure=True, dry_run=True)
    assert report.before is not None
    assert (report.after, report.remaining) == (None, None)


def test_progress_and_cancel(target: Target, process: Process) -> None:
    """Callbacks are called as in truth, and end it."""
    address = target.filled(4 * MIB)
    steps: list[int] = []

    class Enough:
        def is_set(self) -> bool:
            return len(steps) > 2

    report = process.cold(
        [(address, 4 * MIB)],
        dry_run=True,
        max_stall=1e-6,
        cancel=Enough(),
        on_progress=lambda done, total: steps.append(done),
    )
    assert (report.ended, report.advised) == ("cancelled", steps[-1])


def test_refusals_are_the_kernel_s(target: Target) -> None:
    """Without the permission a rehearsal fails as the advice does."""

    def refused() -> object:
        become_nobody_with(CAP_SYS_PTRACE)
        with Process(target.pid) as process:
            try:
                process.cold(dry_run=True)
            except PermissionError as error:
                return error.errno
            return None

    assert value_of_child(refused) == errno.EPERM


def test_a_reserved_terabyte_by_whole_mappings(target: Target) -> None:
    """Where no pages may be read, reserved addresses are not asked for."""
    target.reserved(TIB)
    target.filled(4 * MIB)

    def requested() -> object:
        become_nobody_with(CAP_SYS_PTRACE, CAP_SYS_NICE)
        with Process(target.pid) as process:
            within = process.maps().select(anonymous=True, private=True)
            chosen = process.selection(Advice.PAGEOUT, within)
            default = process.pageout(dry_run=True)
            return chosen.total, default.requested, process.status().rss

    total, by_default, rss = value_of_child(requested)
    assert 4 * MIB <= total <= 4 * rss
    assert 4 * MIB <= by_default <= 4 * rss


@pytest.fixture
def two(target: Target) -> Iterator[list[Process]]:
    """Handles of two processes with 8 MiB each."""
    other = Target()
    with closing(other), Process(target.pid) as one, Process(other.pid) as two:
        target.filled(8 * MIB)
        other.filled(8 * MIB)
        yield [one, two]


def test_one_budget_for_all(two: list[Process]) -> None:
    """A rehearsal shares a budget out as the work does."""
    budget = two[0].cold(dry_run=True).requested + MIB

    def each(**options: object) -> list[tuple[object, ...]]:
        results = advise_each(two, Advice.COLD, budget=budget, **options)  # type: ignore[arg-type]
        return [account(report) for _, report in results if isinstance(report, Report)]

    rehearsal = each(dry_run=True)
    assert [ended for *_, ended in rehearsal] == ["complete", "budget"]
    assert rehearsal == each()


@pytest.mark.needs_swap
def test_a_floor_for_all(two: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal counts the swap that it does not use."""
    floor = 64 * MIB
    free = two[0].pageout(dry_run=True).requested + 2 * MIB

    def scripted() -> Swap:  # as if nobody else on the host used swap, or freed it
        used = sum(process.status().swap for process in two)
        return Swap(floor + free, floor + free - used, True)

    monkeypatch.setattr(group, "swap", scripted)
    rehearsal = advise_each(two, Advice.PAGEOUT, swap_floor=floor, dry_run=True)
    report = rehearsal[1][1]
    assert isinstance(report, Report)
    assert (report.ended, report.advised) == ("budget", 2 * MIB)
    results = advise_each(two, Advice.PAGEOUT, swap_floor=floor)
    truth = results[1][1]
    assert isinstance(truth, Report)
    assert truth.ended == "budget"
    # some pages stay in memory: those touched last
    assert abs(truth.advised - report.advised) <= 2 * LRU_BATCH


@pytest.mark.needs_swap
def test_overlaps_count_once_they_left(target: Target, process: Process) -> None:
    """The same range twice is counted, by a budget, as it would be."""
    address = target.filled(4 * MIB)
    twice = [(address, 2 * MIB), (address, 2 * MIB), (address + 2 * MIB, MIB)]
    report = rehearsed(
        lambda **options: process.pageout(twice, **options), budget=2 * MIB + LRU_BATCH
    )
    assert report.requested == Ranges(twice).total
