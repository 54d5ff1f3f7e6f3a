"""The budget of an advise(), by itself."""

from __future__ import annotations

import pytest
from helpers.targets import PAGE

from pmadvise import Ranges
from pmadvise._advise.account import Budget

TWO = Ranges([(0, 2 * PAGE), (4 * PAGE, 2 * PAGE)])


def budget_of(limit: int, whole_elements: bool = False) -> Budget:
    """Return a budget in which everything counts."""
    return Budget(limit, lambda ranges: ranges.merged(), whole_elements)


@pytest.mark.parametrize(
    ("limit", "fit"),
    [
        (4 * PAGE, (2, None, [2 * PAGE, 2 * PAGE], False)),
        (3 * PAGE, (2, PAGE, [2 * PAGE, PAGE], True)),
        (3 * PAGE + 1, (2, PAGE, [2 * PAGE, PAGE + 1], True)),
        (2 * PAGE, (1, None, [2 * PAGE, 0], True)),
        (PAGE - 1, (0, None, [PAGE - 1], True)),
    ],
)
def test_fit(limit: int, fit: tuple[int, int | None, list[int], bool]) -> None:
    """A vector is cut at the page where the budget ends."""
    assert budget_of(limit).fit(TWO) == fit


def test_ranges_in_descending_order() -> None:
    """A range is cut by what counts in it alone, wherever the next one lies."""
    descending = Ranges([(4 * PAGE, 2 * PAGE), (0, 2 * PAGE)])
    assert budget_of(PAGE).fit(descending) == (1, PAGE, [PAGE], True)


def test_what_does_not_count_is_free() -> None:
    """A cut lies where the next byte counts, behind all that does not."""
    counted = Ranges([(0, PAGE), (2 * PAGE, PAGE)])
    budget = Budget(PAGE, lambda ranges: counted, whole_elements=False)
    _, last_length, _, _ = budget.fit(Ranges([(0, 3 * PAGE)]))
    assert last_length == 2 * PAGE


def test_whole_elements() -> None:
    """A range of which nothing is done in part is taken whole or not at all."""
    n_ranges, _, _, _ = budget_of(3 * PAGE, whole_elements=True).fit(TWO)
    assert n_ranges == 1


@pytest.mark.parametrize(
    ("advised", "used"), [(0, 0), (2 * PAGE, 2), (3 * PAGE, 2), (4 * PAGE, 4)]
)
def test_use(advised: int, used: int) -> None:
    """Only ranges that were advised whole are taken from the budget."""
    budget = budget_of(4 * PAGE)
    budget.use(TWO, [2 * PAGE, 2 * PAGE], advised)
    _, _, _, is_cut = budget.fit(TWO)
    assert is_cut is (used > 0)
    assert budget.is_used_up is (used == 4)
