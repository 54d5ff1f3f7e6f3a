"""The size of calls; needs no kernel feature."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import MAX_RW_COUNT, PAGE_SIZE
from pmadvise._advise.pacer import Pacer

MAX_RATE = 512 << 20
HUGE = 2 << 20
MAX_STALL = 0.008

rates = st.floats(1.0, 1e15)


def sizes(pacer: Pacer, *rates: float) -> list[tuple[int, int]]:
    """Return the sizes and alignments after calls at these rates, bytes a second."""
    asked = [pacer.size()]
    for rate in rates:
        pacer.observe(asked[-1][0], asked[-1][0] / rate)
        asked.append(pacer.size())
    return asked


@pytest.mark.parametrize("max_stall", [None, float("inf"), 1e300, 10**400])
def test_unbounded(max_stall: float | None) -> None:
    """Without a bound a call is as large as the kernel takes."""
    size, _ = Pacer(max_stall, MAX_RATE, huge_page=HUGE).size()
    assert MAX_RW_COUNT - HUGE < size <= MAX_RW_COUNT


@given(st.lists(rates, max_size=10), st.floats(1e-9, 10.0))
def test_ends_on_boundaries(seen: list[float], max_stall: float) -> None:
    """Sizes are multiples of the alignment, a power of two of at least a page."""
    for size, alignment in sizes(Pacer(max_stall, MAX_RATE, huge_page=HUGE), *seen):
        assert size % alignment == 0
        assert alignment & alignment - 1 == 0
        assert PAGE_SIZE <= alignment <= size <= MAX_RW_COUNT


def test_long_calls_end_on_huge_pages() -> None:
    """A call longer than a huge page ends on a boundary of one."""
    _, alignment = Pacer(0.05, MAX_RATE, huge_page=HUGE).size()
    assert alignment == HUGE


def test_a_call_of_a_huge_page_ends_on_its_boundary() -> None:
    """A call that is exactly as long as a huge page is one."""
    # an eighth of it at the first rate
    max_stall = HUGE * 8 / (512 << 20)
    assert Pacer(max_stall, MAX_RATE, huge_page=HUGE).size() == (HUGE, HUGE)


@pytest.mark.parametrize(
    ("rate", "is_whole"), [(128 << 20, True), (127 << 20, False), (100 << 20, False)]
)
def test_a_cheap_end_is_worth_half_of_the_stall(rate: int, is_whole: bool) -> None:
    """A call is 512 KiB long, an end that is cheap, if that takes half of max_stall."""
    pacer = Pacer(1 / 128, MAX_RATE)
    pacer.observe(rate, 1.0)
    assert (pacer.size()[0] == 512 << 10) is is_whole


def test_a_slow_call_shrinks_the_next() -> None:
    """After a slow call the next one is of a page."""
    assert sizes(Pacer(0.05, MAX_RATE), 1e3)[-1][0] == PAGE_SIZE


def test_a_fast_call_lets_it_recover() -> None:
    """After a fast call the next one is as large as dense memory allows."""
    first, _, recovered = sizes(Pacer(0.05, MAX_RATE), 1e3, 1e15)
    assert recovered == first


def test_sparse_memory_does_not_oversize_the_next_call() -> None:
    """The rate counts up to the one that dense memory allows."""
    dense, sparse = sizes(Pacer(0.05, MAX_RATE), MAX_RATE, 1e15)[1:]
    assert sparse == dense


def test_elements_of_a_size() -> None:
    """Cuts are aligned to the largest element where that is smaller than a call."""
    assert Pacer(0.05, MAX_RATE, max_element=128 << 10).size()[1] == 128 << 10


def test_the_target_gets_its_turn() -> None:
    """A pause follows once the lock was held for a quarter of max_stall in all."""
    pacer = Pacer(MAX_STALL, MAX_RATE)
    assert [pacer.pause(part * MAX_STALL) > 0 for part in (0, 0.2, 0.25, 1)] == [
        *(False, False),
        *(True, True),
    ]


def test_unbounded_calls_have_no_pause() -> None:
    """Without a bound on the stall there is no pause."""
    pacer = Pacer(None, MAX_RATE)
    pacer.observe(1 << 19, 10.0)
    assert pacer.pause(10.0) == 0.0


@given(st.floats(1e-9, 10.0), st.floats(0.0, 1.0), st.booleans())
def test_pauses_are_short(max_stall: float, locked: float, sleeps: bool) -> None:
    """No pause is longer than a tenth of a millisecond, wherever it is made."""
    pacer = Pacer(max_stall, MAX_RATE)
    assert pacer.pause(locked) <= 1e-4
    assert pacer.burst(1.0, sleeps)[-1] <= 100_000


@given(
    st.lists(rates, max_size=3),
    st.sampled_from([1e-3, 0.004, 0.01, 0.05, 1.0]),
    st.floats(0, 1),
)
def test_calls_that_follow_are_of_the_same_size(
    seen: list[float], max_stall: float, share: float
) -> None:
    """Whatever a call took between the limits, the next one has the same size."""
    pacer = Pacer(max_stall, MAX_RATE, huge_page=HUGE)
    size, _ = sizes(pacer, *seen)[-1]
    least, most, room, *_ = pacer.burst(1.0, True)
    assert room <= 10_000_000
    if most:
        seconds = 1e-9 * round(least + share * (most - least))
        pacer.observe(size, seconds)
        assert pacer.size()[0] == size


def test_calls_follow_as_long_as_there_is_time() -> None:
    """Calls follow each other for some milliseconds, and no longer than the rest."""
    pacer = Pacer(MAX_STALL, MAX_RATE)
    rooms = [pacer.burst(left, True)[2] for left in (1.0, 0.001, -1.0)]
    assert rooms == [10_000_000, 1_000_000, 0]


def test_the_turn_is_the_same_wherever_it_is_given() -> None:
    """Calls that follow each other have the pauses that calls one by one have."""
    pacer = Pacer(MAX_STALL, MAX_RATE)
    *_, turn, pause = pacer.burst(1.0, True)
    assert turn == 2_000_000
    assert pacer.pause(1e-9 * (turn - 1)) == 0.0
    assert pacer.pause(1e-9 * turn) == 1e-9 * pause > 0
    assert pacer.burst(1.0, False)[-2:] == (turn, 0)


def test_no_call_follows_without_a_bound() -> None:
    """Calls as large as the kernel takes are made one by one."""
    assert not any(Pacer(None, MAX_RATE).burst(1.0, True))


def test_a_fast_call_is_the_last_of_its_length() -> None:
    """A call after which a longer one is to come is followed by none of its length."""
    pacer = Pacer(0.01, 8 << 30)
    pacer.observe(1 << 19, 1e-3)
    size, least = pacer.size()[0], pacer.burst(1.0, True)[0]
    pacer.observe(size, 1e-9 * least)
    assert pacer.size()[0] == size == 1 << 19
    pacer.observe(size, 1e-9 * (least - 2))
    assert pacer.size()[0] > size
