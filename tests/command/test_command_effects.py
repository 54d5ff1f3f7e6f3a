"""What had no effect is explained, and what is not free yet is told apart."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from helpers.targets import GIB, MIB

from pmadvise import Advice, Remaining, Report, Skip, Status, Swap
from pmadvise.command.outcome import lines
from pmadvise.command.selection import Selection
from pmadvise.command.targets import TargetEntry
from pmadvise.command.work import Order, Outcome
from pmadvise.report import Ended

ORDER = Order(Advice.PAGEOUT, Selection())
ZRAM, DISK, FULL = Swap(GIB, GIB, True), Swap(GIB, GIB, False), Swap(GIB, 0, True)
OFF = Swap(0, 0, False)
NOTHING = Status("x", 0, 1, "S", 1, 0, 0, 0, 0, 0, 0, 0.0, 0, 0.0)


def report(
    moved: int = 0, stayed: int = 0, shared: int = 0, ended: Ended = "complete"
) -> Report:
    """Return the Report of a PAGEOUT of 64 MiB."""
    return Report(
        *(Advice.PAGEOUT, 64 * MIB, 64 * MIB, (), 1, 0.1, 0.1, ended),
        before=NOTHING,
        after=replace(NOTHING, swap=moved),
        remaining=Remaining(stayed, shared),
    )


def told(result: Report, swap: Swap = ZRAM, order: Order = ORDER, n: int = 1) -> str:
    """Return what is told of `n` such reports."""
    outcomes = [Outcome(TargetEntry(i, NOTHING), result) for i in range(n)]
    return "\n".join(lines(outcomes, order, swap))


@pytest.mark.parametrize(
    ("result", "swap", "words"),
    [
        (report(moved=64 * MIB), ZRAM, "64.0 MiB went to swap and are free"),
        (report(moved=64 * MIB), DISK, "not free yet: they stay in the swap cache"),
        (report(stayed=64 * MIB), OFF, "64.0 MiB stayed in memory: swap is off"),
        (report(stayed=64 * MIB), FULL, "stayed in memory: no swap is free"),
        (
            report(stayed=9 * MIB, shared=8 * MIB),
            ZRAM,
            "8.0 MiB stayed in memory: shared with other processes",
        ),
        (report(stayed=9 * MIB, shared=8 * MIB), ZRAM, "1.0 MiB stayed in memory: "),
    ],
)
def test_effect(result: Report, swap: Swap, words: str) -> None:
    """Memory that moved is free or in the swap cache; what stayed has its reason."""
    assert words in told(result, swap)


def test_no_words_for_a_full_success() -> None:
    """Where all left memory and nothing went to swap there is nothing to tell."""
    assert told(report()) == ""


def test_reasons_are_grouped() -> None:
    """Ranges that were skipped for one reason are one line, with their sum."""
    skips = tuple(Skip(i * MIB, MIB, errno.EINVAL, "locked") for i in range(5))
    text = told(replace(report(), skipped=skips))
    assert text == "0 x: 5.0 MiB skipped: locked (EINVAL)"


def test_many_targets_are_grouped() -> None:
    """What is to be told of many targets is told once, with the sum."""
    text = told(report(moved=MIB), n=5)
    assert text.startswith("5 targets: 5.0 MiB went to swap")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("ended", "order", "words"),
    [
        ("budget", replace(ORDER, budget=32 * MIB), "the budget is used up"),
        ("budget", replace(ORDER, swap_floor=MIB), "--swap-floor"),
        ("timeout", ORDER, "the time was over"),
        ("cancelled", ORDER, "interrupted"),
    ],
)
def test_ends(ended: Ended, order: Order, words: str) -> None:
    """Why a rest was not tried is told, with its size."""
    result = replace(report(ended=ended), advised=32 * MIB)
    assert told(result, order=order).startswith("0 x: 32.0 MiB not tried: ")
    assert words in told(result, order=order)


def test_nothing_to_advise() -> None:
    """An empty selection is told, and for a dry run too."""
    empty = replace(report(), requested=0, advised=0)
    assert "nothing to advise" in told(empty)
    assert "nothing to advise" in told(empty, order=replace(ORDER, dry_run=True))


@pytest.mark.parametrize(
    ("advice", "words"),
    [
        (Advice.COLD, "64.0 MiB are cold now: they stay in memory until it is short"),
        (Advice.WILLNEED, "64.0 MiB are read ahead"),
        (Advice.COLLAPSE, "64.0 MiB were collapsed: each whole huge page of them"),
    ],
)
def test_each_advice_tells_its_effect(advice: Advice, words: str) -> None:
    """What was advised ends with what came of it; a dry run has no effect."""
    result = replace(report(), advice=advice)
    order = replace(ORDER, advice=advice)
    assert words in told(result, order=order)
    assert told(result, order=replace(order, dry_run=True)) == ""


@pytest.mark.parametrize("result", [report(moved=MIB), report(stayed=MIB)])
def test_hidden_swap(result: Report) -> None:
    """Where the swap can't be seen, nothing of it is claimed."""
    text = "\n".join(lines([Outcome(TargetEntry(1, NOTHING), result)], ORDER, None))
    assert "hidden" in text
    assert "swap is off" not in text
