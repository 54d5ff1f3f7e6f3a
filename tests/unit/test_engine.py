"""The engine's account, on a scripted kernel; needs no kernel feature."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pmadvise._sys import IOV_MAX, MAX_RW_COUNT, PAGE_SIZE
from pmadvise.engine import Engine, Limits, Pacer

from pmadvise import Advice, Ranges, Report, Skip, _sys
from pmadvise import engine as engine_module

USER_END = 1 << 40
GIB = 1 << 30


class Area(NamedTuple):
    """A VMA of the scripted target, in bytes; `errno` is what madvise says to it."""

    start: int
    end: int
    errno: int = 0


class Kernel:
    """Answers as Linux 6.18 does: whole elements, partial results, holes, EFAULT."""

    def __init__(self, areas: list[Area]) -> None:
        self.areas = areas
        self.fates: Iterator[str | None] = iter(())
        self.advised: list[tuple[int, int]] = []
        self.calls: list[list[tuple[int, int]]] = []
        self.probe_says = 0
        self.before_call: Callable[[], object] = lambda: None

    # what an Engine takes for an Mm
    def fileno(self) -> int:
        return 99

    def fate(self) -> str | None:
        return next(self.fates, None)

    def element(self, address: int, length: int) -> int:
        """Advise one element; return 0 or an errno."""
        at, end, hole = address, address + -(-length // PAGE_SIZE) * PAGE_SIZE, False
        for area in self.areas:
            if area.end <= at or area.start >= end:
                continue
            if area.start > at:
                hole = True
            at = max(at, area.start)
            if area.errno:
                return area.errno
            self.advised.append((at, min(area.end, end) - at))
            at = min(area.end, end)
        return errno.ENOMEM if hole or at < end else 0

    def process_madvise(self, pidfd: int, array: Any, n: int, advice: int) -> int:
        vector = list(Ranges._adopt(array, n))
        if all(length == 0 for _, length in vector):
            return -errno.EFAULT if vector[0][0] >= USER_END else 0
        self.before_call()
        self.calls.append(vector)
        assert n <= IOV_MAX
        assert sum(length for _, length in vector) <= MAX_RW_COUNT
        if any(address >= USER_END for address, _ in vector):
            return -errno.EFAULT
        done = 0
        for address, length in vector:
            if error := self.element(address, length):
                return done or -error
            done += length
        return done

    def procmap_vmas(self, fd: int, array: Any, n: int) -> tuple[Any, int]:
        touched = [
            area
            for area in self.areas
            if (Ranges([(area.start, area.end - area.start)]) & Ranges._adopt(array, n))
        ]
        return vmas_of(touched)


def vmas_of(areas: list[Area]) -> tuple[Any, int]:
    """Return areas as maps has them, parsed."""
    lines = "".join(f"{a.start:x}-{a.end:x} rw-p 0 0:0 0 \n" for a in areas)
    return _sys.maps_parse(*_sys.text_from_bytes(lines.encode()))


class Snapshot:
    """What an Engine takes for an AddressSpace."""

    def __init__(self, areas: list[Area]) -> None:
        self._vmas, self._n = vmas_of(areas)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel with nothing mapped; all that the engine asks goes to it."""
    kernel = Kernel([])
    monkeypatch.setattr(
        _sys, "process_madvise", lambda *args: kernel.process_madvise(*args)
    )
    monkeypatch.setattr(_sys, "procmap_vmas", lambda *args: kernel.procmap_vmas(*args))
    monkeypatch.setattr(_sys, "probe", lambda *args: kernel.probe_says)
    monkeypatch.setattr(Pacer, "_PAUSE", 0)
    return kernel


def advise(
    kernel: Kernel,
    ranges: list[tuple[int, int]],
    advice: int = Advice.COLD,
    *,
    space: Snapshot | None = None,
    resident: Ranges | None = None,
    longest: int = MAX_RW_COUNT,
    **limits: Any,
) -> Report:
    """Run an Engine on the scripted kernel."""
    engine = Engine(
        7,
        kernel,  # type: ignore[arg-type]
        Ranges(ranges),
        advice,
        Limits(**limits),
        lambda within: within & (resident or Ranges()),
        longest,
    )
    return engine.run(space)  # type: ignore[arg-type]


def skips(report: Report) -> list[tuple[int, int, int]]:
    return [(skip.address, skip.length, skip.errno) for skip in report.skipped]


def pages(count: int) -> int:
    return count * PAGE_SIZE


areas_strategy = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(1, 6), st.sampled_from([0, 0, 0, errno.EINVAL])
    ),
    max_size=8,
).map(
    lambda steps: [
        Area(pages(start), pages(start + length), number)
        for start, length, number in _placed(steps)
    ]
)


def _placed(steps: list[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    at = 1
    for gap, length, number in steps:
        yield at + gap, length, number
        at += gap + length


ranges_strategy = st.lists(
    st.tuples(st.integers(0, 60).map(pages), st.integers(0, pages(20)))
    | st.just((USER_END, PAGE_SIZE)),
    max_size=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    areas=areas_strategy,
    stale=st.none() | areas_strategy,
    ranges=ranges_strategy,
    max_stall=st.sampled_from([None, 0.05, 1e-9]),
    longest=st.sampled_from([MAX_RW_COUNT, PAGE_SIZE, 4 * PAGE_SIZE]),
)
def test_every_byte_is_accounted_for(
    kernel: Kernel,
    areas: list[Area],
    stale: list[Area] | None,
    ranges: list[tuple[int, int]],
    max_stall: float | None,
    longest: int,
) -> None:
    """Whatever is mapped, asked and remembered wrongly: the account is the truth."""
    kernel.areas, kernel.advised, kernel.calls = areas, [], []
    report = advise(
        kernel,
        ranges,
        space=None if stale is None else Snapshot(stale),
        max_stall=max_stall,
        longest=longest,
    )
    assert report.ended == "complete"
    assert report.not_tried == 0
    expected = advised = 0
    refused: list[tuple[int, int]] = []
    for address, length in ranges:
        for at in range(address, address + length, PAGE_SIZE):
            size = min(PAGE_SIZE, address + length - at)
            number = _errno_at(areas, at)
            if number:
                refused += [(at + i, number) for i in (0, size - 1)]
            else:
                advised += size
            expected += size
    assert (report.requested, report.advised) == (expected, advised)
    told = [
        (at, number)
        for address, length, number in skips(report)
        for start in range(address, address + length, PAGE_SIZE)
        for at in (start, min(start + PAGE_SIZE, address + length) - 1)
    ]
    assert told == refused


def _errno_at(areas: list[Area], address: int) -> int:
    if address >= USER_END:
        return errno.EFAULT
    for area in areas:
        if area.start <= address < area.end:
            return area.errno
    return errno.ENOMEM


@pytest.mark.parametrize("n", [1, 1024, 1025, 5000])
@pytest.mark.parametrize("max_stall", [None, 0.05])
def test_any_number_of_ranges(kernel: Kernel, n: int, max_stall: float | None) -> None:
    """Ranges go 1,024 a call, in the order asked, none lost."""
    kernel.areas = [Area(0, pages(10_000))]
    asked = [(pages(2 * i), PAGE_SIZE) for i in range(n)][::-1]
    report = advise(kernel, asked, max_stall=max_stall)
    assert report.advised == report.requested == n * PAGE_SIZE
    assert [one for vector in kernel.calls for one in vector] == asked
    assert report.calls == len(kernel.calls) >= -(-n // IOV_MAX)
    assert max_stall or report.calls == -(-n // IOV_MAX)


@pytest.mark.parametrize(
    "asked", [[(0, 6 * GIB)], [(0, 3 * GIB), (3 * GIB, 3 * GIB)], [(0, 3 * GIB)] * 2]
)
@pytest.mark.parametrize("max_stall", [None, 0.05])
def test_more_than_a_call_takes(
    kernel: Kernel, asked: list[tuple[int, int]], max_stall: float | None
) -> None:
    """6 GiB are advised whole, in calls that the kernel does not cut."""
    kernel.areas = [Area(0, 6 * GIB)]
    report = advise(kernel, asked, max_stall=max_stall)
    assert (report.advised, report.skipped) == (6 * GIB, ())


@pytest.mark.parametrize("parts", [1, 5, 100])
def test_hole_and_locked(kernel: Kernel, parts: int) -> None:
    """A hole and a locked mapping are skipped with their errno, the rest goes on."""
    kernel.areas = [
        Area(0, pages(40)),
        Area(pages(45), pages(60)),
        Area(pages(60), pages(80), errno.EINVAL),
        Area(pages(80), pages(100)),
    ]
    size = pages(100) // parts
    report = advise(kernel, [(i * size, size) for i in range(parts)])
    assert (report.advised, report.ended) == (pages(75), "complete")
    by_errno = {
        number: Ranges(s[:2] for s in skips(report) if s[2] == number).merged()
        for number in (errno.ENOMEM, errno.EINVAL)
    }
    assert by_errno == {
        errno.ENOMEM: Ranges([(pages(40), pages(5))]),
        errno.EINVAL: Ranges([(pages(60), pages(20))]),
    }


def test_a_skip_for_each_range_asked(kernel: Kernel) -> None:
    """What is refused of one range is one Skip, however many calls it took."""
    kernel.areas = [Area(0, 8 * GIB, errno.EINVAL)]
    report = advise(kernel, [(0, GIB), (GIB, GIB)])
    assert skips(report) == [(0, GIB, errno.EINVAL), (GIB, GIB, errno.EINVAL)]


def test_huge_hole_costs_nothing(kernel: Kernel) -> None:
    """128 GiB of nothing are one Skip and no call with ranges."""
    report = advise(kernel, [(0, 128 * GIB)])
    assert skips(report) == [(0, 128 * GIB, errno.ENOMEM)]
    assert report.calls == 0


def test_willneed_asks_for_no_more_than_readahead(kernel: Kernel) -> None:
    """Elements of WILLNEED are what readahead takes of a file at a time."""
    kernel.areas = [Area(0, GIB)]
    advise(kernel, [(0, GIB)], Advice.WILLNEED)
    longest = max(length for vector in kernel.calls for _, length in vector)
    assert longest == max(128 << 10, PAGE_SIZE)


def test_collapse_is_cut_at_huge_pages(kernel: Kernel) -> None:
    """Elements of COLLAPSE end on borders of huge pages, none is longer than one."""
    huge = 512 * PAGE_SIZE
    kernel.areas = [Area(0, GIB)]
    advise(kernel, [(PAGE_SIZE, 4 * huge)], Advice.COLLAPSE, longest=huge)
    ends = [address + length for vector in kernel.calls for address, length in vector]
    assert ends == [huge, 2 * huge, 3 * huge, 4 * huge, 4 * huge + PAGE_SIZE]


@pytest.mark.parametrize("budget", [1, 3, 64, 65, 1000])
@pytest.mark.parametrize("advice", [Advice.PAGEOUT, Advice.WILLNEED])
def test_budget(kernel: Kernel, budget: int, advice: Advice) -> None:
    """The budget counts what is in memory (for WILLNEED what is not), and holds."""
    every_other = Ranges((pages(2 * i), PAGE_SIZE) for i in range(500))
    kernel.areas = [Area(0, pages(1000))]
    report = advise(
        kernel,
        [(pages(10 * i), pages(10)) for i in range(100)],
        advice,
        resident=every_other,
        budget=pages(budget),
    )
    advised = Ranges(kernel.advised)
    counted = advised & every_other
    if advice == Advice.WILLNEED:
        counted = advised - every_other
    assert counted.total == pages(min(budget, 500))
    assert report.ended == ("budget" if budget < 500 else "complete")
    assert report.advised + report.not_tried == pages(1000)


def test_budget_does_not_count_what_is_skipped(kernel: Kernel) -> None:
    """A locked mapping is in memory, and takes nothing from the budget."""
    kernel.areas = [Area(0, pages(50), errno.EINVAL), Area(pages(50), pages(100))]
    everything = Ranges([(0, pages(100))])
    report = advise(kernel, list(everything), resident=everything, budget=pages(20))
    assert (report.advised, report.ended) == (pages(20), "budget")


@pytest.mark.parametrize(
    ("limits", "ended"), [({"timeout": 0}, "timeout"), ({"budget": 0}, "budget")]
)
def test_nothing_tried(kernel: Kernel, limits: dict[str, Any], ended: str) -> None:
    """With no time or budget at all nothing is tried, and the report says so."""
    kernel.areas = [Area(0, pages(10))]
    report = advise(kernel, [(0, pages(10))], **limits)
    assert (report.ended, report.calls, report.not_tried) == (ended, 0, pages(10))
    assert advise(kernel, [], **limits).ended == "complete"


class Flag:
    """A threading.Event, as far as the engine cares."""

    def __init__(self) -> None:
        self.set = False

    def is_set(self) -> bool:
        return self.set


def test_cancel(kernel: Kernel) -> None:
    """Cancelled in the third call, the fourth is not made."""
    flag = Flag()
    kernel.areas = [Area(0, 8 * GIB)]

    def before_call() -> None:
        flag.set = len(kernel.calls) == 2

    kernel.before_call = before_call
    report = advise(kernel, [(0, 8 * GIB)], cancel=flag, max_stall=None)
    assert (report.ended, report.calls) == ("cancelled", 3)
    assert report.advised + report.not_tried == 8 * GIB


def test_timeout(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is looked at between calls."""
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    kernel.areas = [Area(0, 8 * GIB)]
    report = advise(kernel, [(0, 8 * GIB)], timeout=5, max_stall=None)
    assert report.ended == "timeout"
    assert 0 < report.advised < 8 * GIB


@pytest.mark.parametrize("fate", ["exec", "exited"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_fate(kernel: Kernel, fate: str, after: int) -> None:
    """The target is looked at before each call; once it is another, none is made."""
    kernel.areas = [Area(0, 8 * GIB)]
    kernel.fates = iter([None] * after + [fate] * 100)
    report = advise(kernel, [(0, 8 * GIB)], max_stall=None)
    assert report.ended == fate
    assert report.calls == max(after - 1, 0)
    assert report.advised + report.not_tried == 8 * GIB


def test_fate_at_the_end(kernel: Kernel) -> None:
    """An exec during the last call is seen after it."""
    kernel.areas = [Area(0, PAGE_SIZE)]
    state: list[str | None] = [None]
    kernel.before_call = lambda: state.insert(0, "exec")
    kernel.fate = lambda: state[0]  # type: ignore[method-assign]
    assert advise(kernel, [(0, PAGE_SIZE)]).ended == "exec"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_errno_of_the_whole_call(kernel: Kernel, number: int) -> None:
    """What refuses the whole call is raised, with the report so far."""
    kernel.areas = [Area(0, pages(10)), Area(pages(10), pages(20), number)]
    kernel.probe_says = -number
    with pytest.raises(OSError, match="MADV_COLD") as caught:
        advise(kernel, [(0, pages(20))])
    report: Report = caught.value.report  # type: ignore[attr-defined]
    assert caught.value.errno == number
    assert (report.advised, report.not_tried) == (pages(10), pages(10))
    json.dumps(report.to_dict())


@pytest.mark.parametrize(
    "number", [errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EPERM, errno.EBADF]
)
def test_errno_of_one_range(kernel: Kernel, number: int) -> None:
    """An errno that the probe does not confirm is of the range alone."""
    kernel.areas = [Area(0, pages(1), number), Area(pages(1), pages(2))]
    report = advise(kernel, [(0, pages(2))])
    assert skips(report) == [(0, PAGE_SIZE, number)]
    assert report.skipped[0].reason
    assert report.advised == PAGE_SIZE


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_exception_carries_the_report(
    kernel: Kernel, error: type[BaseException]
) -> None:
    """Whatever on_progress raises goes through, with the report so far."""
    kernel.areas = [Area(0, 8 * GIB)]

    def on_progress(done: int, total: int) -> None:
        if done > 3 * GIB:
            raise error

    with pytest.raises(error) as caught:
        advise(kernel, [(0, 8 * GIB)], max_stall=None, on_progress=on_progress)
    report: Report = caught.value.report  # type: ignore[attr-defined]
    assert 3 * GIB < report.advised < 8 * GIB
    assert report.advised + report.not_tried == 8 * GIB


def test_progress(kernel: Kernel) -> None:
    """Progress grows from call to call up to all of it."""
    kernel.areas = [Area(0, 3 * GIB), Area(4 * GIB, 6 * GIB, errno.EINVAL)]
    seen: list[tuple[int, int]] = []
    advise(
        kernel,
        [(0, 6 * GIB)],
        max_stall=None,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(set(seen))
    assert seen[-1] == (6 * GIB, 6 * GIB)


def test_old_kernel_reads_maps(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PROCMAP_QUERY the mappings are read as text."""

    def too_old(*args: object) -> None:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    monkeypatch.setattr(_sys, "procmap_vmas", too_old)
    monkeypatch.setattr(
        engine_module, "AddressSpace", lambda mm: Snapshot(kernel.areas)
    )
    kernel.areas = [Area(0, pages(2)), Area(pages(3), pages(4))]
    report = advise(kernel, [(0, pages(4))])
    assert skips(report) == [(pages(2), PAGE_SIZE, errno.ENOMEM)]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_stall": 0}, "max_stall 0"),
        ({"max_stall": -1.0}, "max_stall -1.0"),
        ({"max_stall": float("nan")}, "max_stall nan"),
        ({"budget": -1}, "budget -1"),
        ({"timeout": -0.5}, r"timeout -0\.5"),
        ({"timeout": float("nan")}, "timeout nan"),
    ],
)
def test_limits_refused(limits: dict[str, Any], words: str) -> None:
    """Limits that can't be kept are refused by name and value."""
    with pytest.raises(ValueError, match=words):
        Limits(**limits)


# The pacer


def sizes(pacer: Pacer, *rates: float) -> list[tuple[int, int]]:
    """Return what the pacer asks for after calls at these rates, bytes a second."""
    asked = [pacer.size()]
    for rate in rates:
        pacer.took(asked[-1][0], asked[-1][0] / rate)
        asked.append(pacer.size())
    return asked


def test_pacer_unbounded() -> None:
    """Without a bound a call is as large as the kernel takes."""
    assert Pacer(Advice.PAGEOUT, None, MAX_RW_COUNT).size()[0] >= MAX_RW_COUNT - (
        1 << 19
    )


def test_pacer_ends_on_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are multiples of the border, and the border a power of two."""
    monkeypatch.setattr(Pacer, "_PAUSE", 0)
    pacer = Pacer(Advice.PAGEOUT, 0.05, MAX_RW_COUNT)
    for size, border in sizes(pacer, 1e12, 1e6, 1e3, 1, 1e5, 1e9):
        assert size % border == 0
        assert border & border - 1 == 0
        assert border >= PAGE_SIZE


def test_pacer_shrinks_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow call makes the next one small, a fast one large again, up to a bound."""
    monkeypatch.setattr(Pacer, "_PAUSE", 0)
    pacer = Pacer(Advice.PAGEOUT, 0.05, MAX_RW_COUNT)
    first, slow, fast = (size for size, _ in sizes(pacer, 1e6, 1e15))
    assert slow == PAGE_SIZE
    assert fast == first


def test_pacer_gives_the_target_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sleeps once the lock was held for a quarter of max_stall in all."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    pacer = Pacer(Advice.PAGEOUT, 0.008, MAX_RW_COUNT)
    for _ in range(10):
        pacer.took(1 << 19, 0.001)
    assert len(slept) == 5


def test_repr_of_a_skip() -> None:
    """A Skip shows its address in hex and its errno by name."""
    assert repr(Skip(4096, 8192, errno.ENOMEM, "not mapped")) == (
        "Skip(0x1000, 0x2000, ENOMEM: not mapped)"
    )
