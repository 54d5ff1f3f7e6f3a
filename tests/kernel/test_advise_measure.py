"""measure=True: the memory that stayed is reported, and the target keeps its lock."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.children import value_of_child
from helpers.namespaces import watch_opens
from helpers.targets import LRU_BATCH, MIB, PAGE, Target

from pmadvise import Advice, Process, Remaining, Report

pytestmark = pytest.mark.needs_root

SIZE = 16 * MIB
LOCKING = ("smaps", "smaps_rollup")
"""Files for which the kernel holds the mmap lock of the target for long."""


def remaining(process: Process, address: int, size: int = SIZE) -> Remaining:
    """Page memory out, and return what remained."""
    report = process.pageout([(address, size)], measure=True)
    assert isinstance(report, Report)
    assert report.remaining is not None
    return report.remaining


@pytest.mark.needs_swap
def test_memory_that_moved(target: Target, process: Process) -> None:
    """Of memory that went to swap nothing remains, but for the last pages touched."""
    left = remaining(process, target.filled(SIZE))
    assert (left.resident <= LRU_BATCH, left.shared) == (True, 0)


def test_nothing(process: Process) -> None:
    """Of nothing asked nothing remains."""
    assert process.pageout([], measure=True).remaining == Remaining(0, 0)


def test_memory_shared_by_fork(
    target: Target, process: Process, request: pytest.FixtureRequest
) -> None:
    """Memory shared by fork stays, and is reported as shared."""
    address = target.filled(SIZE)
    request.getfixturevalue("fork")
    assert remaining(process, address) == Remaining(SIZE, SIZE)


@pytest.mark.needs_swap
def test_shared_in_part(
    target: Target, process: Process, request: pytest.FixtureRequest
) -> None:
    """Of memory shared in part, that part is reported as shared."""
    address = target.filled(SIZE)
    request.getfixturevalue("fork")
    target.run(f"fill({address}, {SIZE // 2})")  # copies of its own
    left = remaining(process, address)
    assert left.shared == SIZE // 2
    assert SIZE // 2 <= left.resident <= SIZE // 2 + LRU_BATCH


def test_locked_memory(target: Target, process: Process) -> None:
    """Locked memory stays, and is not shared."""
    address = target.filled(SIZE)
    target.run(f"lock({address}, {SIZE})")
    assert remaining(process, address) == Remaining(SIZE, 0)


def test_pinned_memory(target: Target, process: Process) -> None:
    """Pinned memory stays, and is not shared."""
    address = target.filled(16 * PAGE)
    try:
        target.run(f"pin({address}, {16 * PAGE})")
    except RuntimeError as error:
        pytest.skip(f"kernel: no io_uring to pin memory with: {error}")
    left = remaining(process, address, 16 * PAGE)
    assert left == Remaining(16 * PAGE, 0)


@pytest.mark.parametrize(
    "advice", [Advice.COLD, Advice.WILLNEED, Advice.COLLAPSE], ids=str
)
def test_only_of_pageout(target: Target, process: Process, advice: Advice) -> None:
    """An advice that reclaims nothing has no `remaining`."""
    ranges = [(target.filled(PAGE), PAGE)]
    report = process.advise(ranges, advice, measure=True)
    assert (report.remaining, report.before is None) == (None, False)


def test_not_measured(target: Target, process: Process) -> None:
    """Without measure=True nothing of it is there."""
    report = process.pageout([(target.filled(PAGE), PAGE)])
    assert (report.before, report.after, report.remaining) == (None, None, None)


def opened_by(target: Target, function: Callable[[Process], object]) -> set[str]:
    """Return the files that make the target wait, of those that a function opens."""

    def look() -> set[str]:
        opened = watch_opens(target.pid, *LOCKING)
        with Process(target.pid) as process:
            function(process)
            return opened()

    found: set[str] = value_of_child(look)
    return found


@pytest.mark.parametrize(
    "method", [Process.cold, Process.pageout, Process.willneed, Process.collapse]
)
@pytest.mark.needs_mounts
def test_no_file_that_takes_the_lock(
    target: Target, method: Callable[..., Report]
) -> None:
    """With memory locked and everything measured, no such file is opened."""
    target.run(f"lock({target.filled(MIB)}, PAGE)")
    assert opened_by(target, lambda process: method(process, measure=True)) == set()


@pytest.mark.needs_mounts
def test_a_file_that_takes_the_lock(target: Target) -> None:
    """The watch finds such a file: the sums of memory() open one."""
    assert opened_by(target, Process.memory) == {"smaps_rollup"}
