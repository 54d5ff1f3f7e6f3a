"""The swap space, from texts of /proc and /sys: tiers, sums, and what is hidden."""

from __future__ import annotations

import errno
import json

import pytest
from helpers.fake_files import give_files

from pmadvise import Advice, _reasons, advise_each, support, swap
from pmadvise._reasons import Answer
from pmadvise.memory import SwapTier

HEADER = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
ZSWAP = "/sys/module/zswap/parameters/enabled"
KIB = 1024


def give_swaps(
    monkeypatch: pytest.MonkeyPatch, rows: bytes, zswap: bytes | None = None
) -> None:
    """Let /proc/swaps have these rows."""
    contents = {"/proc/swaps": HEADER + rows}
    if zswap is not None:
        contents[ZSWAP] = zswap
    give_files(monkeypatch, contents)


@pytest.mark.parametrize(
    ("rows", "zswap", "tiers", "frees_at_once"),
    [
        (b"", None, (), False),
        (b"", b"Y\n", (), False),
        (
            b"/dev/zram0       partition\t1024\t\t24\t\t-2\n",
            None,
            (SwapTier("/dev/zram0", "zram", 1024 * KIB, 1000 * KIB, -2),),
            True,
        ),
        (
            b"/dev/zram0 partition 1024 24 100\n/swap\\040file file 2048 0 -2\n",
            b"N\n",
            (
                SwapTier("/dev/zram0", "zram", 1024 * KIB, 1000 * KIB, 100),
                SwapTier("/swap file", "disk", 2048 * KIB, 2048 * KIB, -2),
            ),
            False,
        ),
        (
            b"/dev/zram0 partition 1024 24 100\n/dev/sda2 partition 2048 0 -2\n",
            b"Y\n",
            (
                SwapTier("/dev/zram0", "zram", 1024 * KIB, 1000 * KIB, 100),
                SwapTier("/dev/sda2", "zswap", 2048 * KIB, 2048 * KIB, -2),
            ),
            True,
        ),
        (
            b"/a\x0bb\x0cc\xff file 1024 24 -2\n",
            None,
            (SwapTier("/a\x0bb\x0cc\udcff", "disk", 1024 * KIB, 1000 * KIB, -2),),
            False,
        ),
        (
            b"/zram0 file 1024 0 -2\n",
            None,
            (SwapTier("/zram0", "disk", 1024 * KIB, 1024 * KIB, -2),),
            False,
        ),
        (
            b"/used/more file 8 12 -2\n/s file 8 0 -3\n",
            None,
            (
                SwapTier("/used/more", "disk", 8 * KIB, 0, -2),
                SwapTier("/s", "disk", 8 * KIB, 8 * KIB, -3),
            ),
            False,
        ),
    ],
)
def test_tiers(
    monkeypatch: pytest.MonkeyPatch,
    rows: bytes,
    zswap: bytes | None,
    tiers: tuple[SwapTier, ...],
    frees_at_once: bool,
) -> None:
    """Each row is a tier, the sums are theirs, and nothing free is negative."""
    give_swaps(monkeypatch, rows, zswap)
    found = swap()
    assert (found.tiers, found.frees_at_once) == (tiers, frees_at_once)
    assert found.total == sum(tier.total for tier in tiers)
    assert found.free == sum(tier.free for tier in tiers)
    answers = support()
    assert (answers.swap.ok, answers.swap_total, answers.swap_free) == (
        True,
        found.total,
        found.free,
    )


def test_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is ready for JSON."""
    give_swaps(monkeypatch, b"/dev/zram0 partition 4 0 -2\n")
    tier = {
        "name": "/dev/zram0",
        "kind": "zram",
        "total": 4096,
        "free": 4096,
        "priority": -2,
    }
    sums = {"total": 4096, "free": 4096, "frees_at_once": True}
    assert json.loads(json.dumps(swap().to_dict())) == {**sums, "tiers": [tier]}


HIDDEN = [
    pytest.param({}, errno.ENOENT, "subset=pid", id="subset=pid"),
    pytest.param({"/proc/swaps": b""}, errno.ENODATA, "another file", id="empty"),
    pytest.param(
        {"/proc/swaps": b"nothing here\n"}, errno.ENODATA, "another", id="other"
    ),
    pytest.param(
        {"/proc/swaps": HEADER + b"/a file x y z\n"}, errno.ENODATA, "another", id="row"
    ),
    pytest.param(
        {"/proc/meminfo": b"SwapTotal: 8 kB\n"}, errno.ENOENT, "hidden", id="meminfo"
    ),
]


@pytest.mark.parametrize(("contents", "number", "words"), HIDDEN)
def test_hidden_is_not_absent(
    monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes], number: int, words: str
) -> None:
    """What can't be seen is an error with its remedy, and support() agrees."""
    give_files(monkeypatch, contents)
    with pytest.raises(OSError, match="hidden, not absent") as caught:
        swap()
    assert (caught.value.errno, words in str(caught.value)) == (number, True)
    assert "ProcSubset=all" in str(caught.value)
    found = support()
    assert (found.swap_total, found.swap_free, found.swap.errno) == (None, None, number)
    assert str(found.swap) in str(caught.value)


@pytest.mark.parametrize(("contents", "number", "words"), HIDDEN[:2])
def test_a_floor_of_hidden_swap(
    monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes], number: int, words: str
) -> None:
    """A floor that can't be watched is an error before any process is taken."""
    give_files(monkeypatch, contents)
    taken = iter([None])
    with pytest.raises(OSError, match=words) as caught:
        advise_each(taken, Advice.PAGEOUT, swap_floor=1)  # type: ignore[arg-type]
    assert (caught.value.errno, list(taken)) == (number, [None])
    assert advise_each([], Advice.COLD, swap_floor=1) == []


def test_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """support() asks once why the swap is hidden: two answers could differ."""
    give_files(monkeypatch, {})
    asked: list[int] = []
    original = _reasons.no_swaps

    def no_swaps(number: int) -> Answer:
        asked.append(number)
        return original(number)

    monkeypatch.setattr(_reasons, "no_swaps", no_swaps)
    assert support().swap.errno == errno.ENOENT
    assert asked == [errno.ENOENT]


def test_a_kernel_without_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without CONFIG_SWAP lacks the file: no swap, and no error."""
    give_files(monkeypatch, {"/proc/meminfo": b"SwapTotal:       0 kB\n"})
    found = swap()
    assert (found.total, found.free, found.tiers) == (0, 0, ())
