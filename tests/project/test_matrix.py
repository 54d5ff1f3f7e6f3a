"""The VM matrix believes a guest only when all of its output agrees."""

from __future__ import annotations

import re
from pathlib import Path

import guest
import matrix
import pytest
from cells import CELLS
from debian import VmError
from suites import PYTEST_RESULT, SELFTEST_RESULT

OLDEST, NEWEST = CELLS[0], CELLS[3]
GOOD = (
    "SeaBIOS\n\ncell: kernel 7.2.13\ncell: page 65536\ncell: start\n"
    "ok host - Linux\nok cold - intact\n2 passed, 0 failed, 0 skipped\ncell: exit 0\n"
)
SKIPPED = GOOD.replace("ok cold", "skip cold").replace("0 skipped", "1 skipped")


def judged(console: str, *, ended: bool = True, oldest: bool = False) -> matrix.Result:
    cell = OLDEST if oldest else NEWEST
    return matrix.judge(cell, guest.Outcome(console, 1.23, ended), SELFTEST_RESULT)


def test_a_good_guest_passes() -> None:
    """Status 0 and a result line without failures are a pass, with its counts."""
    result = judged(GOOD)
    assert (result.why, result.kernel, result.page_size) == ("", "7.2.13", 65536)
    assert (result.passed, result.failed, result.skipped) == (2, 0, 0)


@pytest.mark.parametrize(
    "console",
    [
        "",
        GOOD.replace("cell: exit 0", "cell: exit 1"),
        GOOD.replace("cell: exit 0\n", ""),
        GOOD.replace("2 passed, 0 failed", "1 passed, 1 failed"),
        GOOD.replace("2 passed", "0 passed"),
        GOOD.replace("2 passed, 0 failed, 0 skipped\n", ""),
        GOOD + GOOD,
        SKIPPED,
    ],
    ids=["mute", "status", "no-end", "failed", "none", "no-line", "twice", "skipped"],
)
def test_a_bad_guest_fails(console: str) -> None:
    """Output that is incomplete, contradicts itself or has a skip fails the cell."""
    assert judged(console).why


def test_a_hung_guest_fails() -> None:
    """A guest that had to be killed fails, whatever it printed before."""
    assert judged(GOOD, ended=False).why


def test_what_a_kernel_lacks_may_be_skipped() -> None:
    """Linux 5.10 knows no WILLNEED for another process; the newest does."""
    console = SKIPPED.replace("cold", "willneed")
    assert (judged(console, oldest=True).why, judged(console).why) == (
        "",
        "skipped willneed",
    )


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("51 passed in 10.00s", (51, 0, 0)),
        ("1 failed, 50 passed, 2 skipped in 75.00s (0:01:15)", (50, 1, 2)),
    ],
)
def test_pytest_s_line_is_read(line: str, counts: tuple[int, int, int]) -> None:
    """The portable tests end with pytest's own line."""
    outcome = guest.Outcome(f"{line}\ncell: exit 0\n", 1, True)
    result = matrix.judge(NEWEST, outcome, PYTEST_RESULT)
    assert (result.passed, result.failed, result.skipped) == counts


@pytest.mark.parametrize("patterns", [["nothing/*"], ["amd64/*,nothing"]])
def test_a_pattern_must_name_a_cell(patterns: list[str]) -> None:
    """A pattern that names no cell is misuse, not an empty success."""
    with pytest.raises(VmError, match="nothing"):
        matrix.chosen(patterns)


def test_the_table_is_rewritten_between_its_marks(tmp_path: Path) -> None:
    """The text around the marks stays, and a page without them is refused."""
    page = tmp_path / "kernels.md"
    page.write_text(
        "before\n" + matrix.MARKS[0] + "old\n" + matrix.MARKS[1] + "after\n"
    )
    matrix.rewrite(page, matrix.table([judged(GOOD)]))
    text = page.read_text()
    assert re.fullmatch(r"before\n<!--.*-->\n(\|.*\n){3}<!--.*-->\nafter\n", text)
    page.write_text("no marks\n")
    with pytest.raises(VmError, match="lacks"):
        matrix.rewrite(page, "")
