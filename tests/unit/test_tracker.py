"""The generations of a Tracker, against a model; its source is scripted."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import PAGE_SIZE, Process, Ranges, Tracker, idle
from pmadvise._handle.smaps import parse_referenced
from pmadvise._idle.grid import grid
from pmadvise._idle.look import Look

N = 24
PAGES = st.sets(st.integers(0, N - 1))


class Scripted:
    """A source that says what it is told to."""

    name, grain = "scripted", PAGE_SIZE

    def __init__(self) -> None:
        self.next = Look(Ranges(), Ranges(), 0)

    def look(self) -> Look:
        """Return what the test has put there."""
        return self.next

    def close(self) -> None:
        """There is nothing to put back."""


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture(scope="module")
def area() -> Iterator[int]:
    """The address of N pages in memory that this process alone maps."""
    with mmap.mmap(-1, N * PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(b"x" * N * PAGE_SIZE)
        cell = ctypes.c_char.from_buffer(memory)
        yield ctypes.addressof(cell)
        del cell


def pages(area: int, numbers: set[int]) -> Ranges:
    """Return pages of the area."""
    return Ranges((area + n * PAGE_SIZE, PAGE_SIZE) for n in numbers).merged()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that trackers look at."""
    clock = Clock()
    monkeypatch.setattr(idle, "time", clock)
    return clock


def started(process: Process, source: Scripted) -> Tracker:
    """Return a tracker by a source."""
    mm = process._mm_now()
    return Tracker(mm, source, mm.claim())


STEP = st.tuples(st.integers(1, 9), PAGES, PAGES)


@given(first=PAGES, steps=st.lists(STEP, max_size=8), age=st.integers(0, 30))
def test_idle_was_watched_and_not_touched(
    area: int, first: set[int], steps: list[tuple[int, set[int], set[int]]], age: int
) -> None:
    """What is idle was watched at every look of that time, and seen untouched."""
    clock, source = Clock(), Scripted()
    with pytest.MonkeyPatch.context() as patch, Process(os.getpid()) as process:
        patch.setattr(idle, "time", clock)
        source.next = Look(Ranges(), pages(area, first), N * PAGE_SIZE)
        with started(process, source) as tracker:
            since = dict.fromkeys(first, clock.now)
            looks = [clock.now]
            for seconds, untouched, watched in steps:
                clock.now += seconds
                source.next = Look(
                    pages(area, untouched), pages(area, watched), N * PAGE_SIZE
                )
                tracker.look()
                since = {
                    page: since[page]
                    if page in since and page in untouched
                    else clock.now
                    for page in watched
                }
                looks.append(clock.now)
            old = {page for page, when in since.items() if clock.now - when >= age}
            assert tracker.idle(age) == pages(area, old)
            assert tracker.ages() == [
                (
                    clock.now - look,
                    PAGE_SIZE * sum(when <= look for when in since.values()),
                )
                for look in reversed(looks)
            ]
            assert tracker.unknown == (N - len(since)) * PAGE_SIZE


def test_a_look_without_a_touch_makes_all_older(area: int, clock: Clock) -> None:
    """The time is counted from the end of a look to the beginning of the latest."""
    source = Scripted()
    everything = pages(area, set(range(N)))
    source.next = Look(everything, everything, N * PAGE_SIZE)
    with Process(os.getpid()) as process, started(process, source) as tracker:
        clock.now += 5
        assert tracker.idle(1).total == 0, "it was not looked at since"
        tracker.look()
        assert tracker.idle(5) == everything
        assert tracker.idle(5.001).total == 0
        assert tracker.ages() == [(0.0, everything.total), (5.0, everything.total)]


def test_what_left_memory_is_not_idle(area: int, clock: Clock) -> None:
    """Memory that was unmapped since the latest look is not there to be advised."""
    source = Scripted()
    nowhere = Ranges([(PAGE_SIZE * 16, PAGE_SIZE)])
    source.next = Look(nowhere, nowhere | pages(area, {0}), 2 * PAGE_SIZE)
    with Process(os.getpid()) as process, started(process, source) as tracker:
        assert tracker.idle(0) == pages(area, {0})


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError, MemoryError])
def test_a_look_that_fails_forgets(
    area: int, clock: Clock, kind: type[BaseException]
) -> None:
    """What a source had to say is lost then: nothing is idle until the next look."""
    source = Scripted()
    everything = pages(area, set(range(N)))
    source.next = Look(everything, everything, N * PAGE_SIZE)

    def fails() -> Look:
        raise kind

    with Process(os.getpid()) as process, started(process, source) as tracker:
        clock.now += 5
        tracker.look()
        assert tracker.idle(5) == everything
        look, source.look = source.look, fails  # type: ignore[method-assign]
        with pytest.raises(kind):
            tracker.look()
        assert (tracker.idle(0), tracker.ages()) == (Ranges(), [])
        source.look = look  # type: ignore[method-assign]
        clock.now += 5
        tracker.look()
        assert tracker.idle(0) == everything
        assert tracker.idle(1) == Ranges()


def test_many_looks_take_little(area: int, clock: Clock) -> None:
    """1,000 looks are remembered, and those joined that are closest for their age."""
    source = Scripted()
    everything = pages(area, set(range(N)))
    with Process(os.getpid()) as process, started(process, source) as tracker:
        for number in range(1500):
            clock.now += 1
            touched = {number % N}
            source.next = Look(
                everything - pages(area, touched), everything, N * PAGE_SIZE
            )
            tracker.look()
        ages = tracker.ages()
        assert len(ages) == 1000
        assert [age for age, _ in ages[:400]] == [float(age) for age in range(400)]
        assert ages[N - 1][1] == PAGE_SIZE
        assert ages[0][1] == everything.total


@pytest.mark.parametrize("age", [-1, -0.5, float("nan"), float("inf")])
def test_an_age_is_a_time(area: int, clock: Clock, age: float) -> None:
    """An age that is none is refused, and named."""
    with Process(os.getpid()) as process, started(process, Scripted()) as tracker:
        with pytest.raises(ValueError, match=str(age)):
            tracker.idle(age)
        with pytest.raises(TypeError, match="'5s'"):
            tracker.idle("5s")  # type: ignore[arg-type]


def test_a_closed_tracker(clock: Clock) -> None:
    """After close(), looks are refused; it may be closed again, and its process too."""
    with Process(os.getpid()) as process:
        tracker = started(process, Scripted())
        tracker.close()
        tracker.close()
        for ask in (tracker.look, lambda: tracker.idle(0), tracker.__enter__):
            with pytest.raises(ValueError, match="closed"):
                ask()
        assert "closed" in repr(tracker)
        tracker = started(process, Scripted())
    with pytest.raises(ValueError, match="closed"):
        tracker.look()
    tracker.close()


SMAPS = b"""\
1000-3000 rw-p 00000000 00:00 0 \\012Rss:        8 kB
Rss:                   8 kB
Referenced:            0 kB
3000-4000 rw-p 00000000 00:00 0
Rss:                   4 kB
Referenced:            4 kB
200000-400000 rw-p 00000000 00:0f 9 /anon_hugepage (deleted)
Rss:                   0 kB
Referenced:            0 kB
Private_Hugetlb:    2048 kB
500000-600000 rw-p 00000000 00:00 0
Rss:                  10 kB
Referenced:            0 kB
"""


def test_smaps_does_not_count_hugetlb() -> None:
    """A mapping of hugetlb pages has no Rss and never Referenced: that is unknown."""
    assert parse_referenced(SMAPS) == (
        [(0x1000, 0x2000), (0x3000, 0x1000), (0x500000, 0x100000)],
        [(0x1000, 0x2000), (0x500000, 0x100000)],
    )


SPANS = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 60)), max_size=40)


@given(spans=SPANS, most=st.integers(2, 30))
def test_grid(spans: list[tuple[int, int]], most: int) -> None:
    """A grid covers all memory with no more regions than are allowed, nearly equal."""
    at, pairs = 16, []
    for gap, length in spans:
        pairs.append(((at + gap) * PAGE_SIZE, length * PAGE_SIZE))
        at += gap + length
    memory = Ranges(pairs)
    regions, size = grid(memory, most)
    assert len(regions) <= most
    assert (memory - regions).total == 0
    assert regions.merged().total == regions.total, "none overlaps another"
    assert all(length <= size for _, length in regions)
    # Only the last region of each span is smaller: no two neighbours are.
    for (start, length), (after, _) in zip(regions, list(regions)[1:], strict=False):
        assert start + length < after or length == size
