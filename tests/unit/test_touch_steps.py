"""The reading of pages on a scripted kernel: what can't be read, and how it ends."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import pairwise

import pytest
from helpers.scripted_kernel import pages
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import PAGE_SIZE, Ranges
from pmadvise._advise.kernel import Kernel
from pmadvise._advise.limits import Clock, Limits, StopAdvising
from pmadvise._advise.touch import Touch
from pmadvise._handle.mm import MmEnd
from pmadvise._native.mm import TOUCH_MAX
from pmadvise._native.ranges import RangeArray


class Pages(Kernel):
    """A kernel of no process, which reads all pages but some."""

    def __init__(self, unreadable: set[int], number: int = errno.EFAULT) -> None:
        self.unreadable, self.number = unreadable, number
        self.read: list[int] = []
        self.calls = 0
        self.end: MmEnd | None = None
        self.interruptions = 0

    def ended(self) -> MmEnd | None:
        """Return the answer that a test has set."""
        return self.end

    def touch(self, asked: RangeArray) -> tuple[MmEnd | None, int]:
        """Read pages, up to the first that can't be read."""
        self.calls += 1
        assert 0 < len(asked) <= TOUCH_MAX
        if self.interruptions:
            self.interruptions -= 1
            return None, -errno.EINTR
        for index in range(len(asked)):
            address, length = asked.get(index)
            assert (address % PAGE_SIZE, length) == (0, PAGE_SIZE)
            page = address // PAGE_SIZE
            if page in self.unreadable:
                return self.end, index or -self.number
            self.read.append(page)
        return self.end, len(asked)


def run(kernel: Kernel, parts: list[tuple[int, int]], limits: Limits) -> Touch:
    """Read parts, given in pages, to the end; return the reader."""
    array = Ranges((pages(start), pages(n)) for start, n in parts)._array
    touch = Touch(kernel, array, limits, Clock(limits))
    ended = drain(touch.steps())
    assert ended == "complete"
    return touch


def drain(steps: Iterator[float]) -> object:
    """Return what a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


parts_and_holes = st.tuples(
    st.lists(st.integers(1, 3000), min_size=1, max_size=4),
    st.sets(st.integers(0, 8000), max_size=20),
)


@given(parts_and_holes)
def test_all_that_can_be_read(case: tuple[list[int], set[int]]) -> None:
    """Lone pages that can't be read cost no other page; all others are read once."""
    lengths, unreadable = case
    unreadable = {page for page in unreadable if page - 1 not in unreadable}
    parts, at = [], 0
    for length in lengths:
        parts.append((at, length))
        at += length + 1
    kernel = Pages(unreadable)
    touch = run(kernel, parts, Limits())
    wanted = [p for start, n in parts for p in range(start, start + n)]
    assert kernel.read == [page for page in wanted if page not in unreadable]
    assert touch.touched == pages(len(kernel.read))


def test_behind_the_end_of_a_file() -> None:
    """Many in a row cost few calls, and what is mapped behind them is read."""
    kernel = Pages(set(range(100, 1_000_000)))
    run(kernel, [(0, 1_000_000), (1_000_000, 50)], Limits(max_stall=None))
    assert kernel.read == [*range(100), *range(1_000_000, 1_000_050)]
    assert kernel.calls < 40


def test_each_mapping_anew() -> None:
    """Where one can't be read, no more of the next is passed over for that."""
    kernel = Pages({*range(1000), 1000, 3000})
    run(kernel, [(0, 1000), (1000, 2000), (3000, 5)], Limits())
    assert kernel.read == [*range(1001, 3000), *range(3001, 3005)]


def test_enomem_is_of_a_page() -> None:
    """A page for which the kernel has no memory is passed over."""
    kernel = Pages({5}, errno.ENOMEM)
    run(kernel, [(0, 10)], Limits())
    assert kernel.read == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def test_interrupted_calls_are_made_again() -> None:
    """EINTR says nothing of a page."""
    kernel = Pages(set())
    kernel.interruptions = 3
    run(kernel, [(0, 10)], Limits())
    assert (kernel.read, kernel.calls) == (list(range(10)), 4)


@pytest.mark.parametrize("end", ["exec", "exited", "refused"])
def test_the_target_ends(end: MmEnd) -> None:
    """What was read of a process that has ended does not count."""
    kernel = Pages(set())
    kernel.end = end
    limits = Limits()
    touch = Touch(kernel, Ranges([(0, pages(4))])._array, limits, Clock(limits))
    assert drain(touch.steps()) == end
    assert touch.touched == 0


def test_a_right_is_lost() -> None:
    """EPERM after all is a refusal, and no page is passed over for it."""
    kernel = Pages({2}, errno.EPERM)
    limits = Limits()
    touch = Touch(kernel, Ranges([(0, pages(4))])._array, limits, Clock(limits))
    assert drain(touch.steps()) == "refused"
    assert touch.touched == pages(2)


@pytest.mark.parametrize(("name", "value"), [("timeout", 0), ("cancel", None)])
def test_limits(name: str, value: object) -> None:
    """The timeout and the cancel of the advise() end it before the first call."""

    class Set:
        def is_set(self) -> bool:
            return True

    kernel = Pages(set())
    limits = Limits(**{name: value if value is not None else Set()})  # type: ignore[arg-type]
    touch = Touch(kernel, Ranges([(0, pages(4))])._array, limits, Clock(limits))
    with pytest.raises(StopAdvising):
        drain(touch.steps())
    assert kernel.calls == 0


def test_progress() -> None:
    """The bytes read or passed over are told after each call, up to all."""
    told: list[int] = []
    limits = Limits()
    array = Ranges([(0, pages(5000))])._array
    touch = Touch(Pages({7}), array, limits, Clock(limits), told.append)
    drain(touch.steps())
    assert all(a < b for a, b in pairwise(told))
    assert (told[-1], touch.touched) == (pages(5000), pages(4999))
