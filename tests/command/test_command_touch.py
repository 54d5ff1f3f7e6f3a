"""--touch of willneed: what was read ahead is mapped, and counted."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from helpers.command import run, terminal
from helpers.targets import MIB, Target

from pmadvise import Advice, Report, Status
from pmadvise.command.outcome import lines, to_json, why_ended
from pmadvise.command.selection import Selection
from pmadvise.command.targets import TargetEntry
from pmadvise.command.work import Order, Outcome
from pmadvise.report import Ended

SIZE = 32 * MIB
ORDER = Order(Advice.WILLNEED, Selection(), touch=True)
NOTHING = Status("x", 0, 1, "S", 1, 0, 0, 0, 0, 0, 0, 0.0, 0, 0.0)
BYTES = re.compile(rb"([0-9.]+)M/([0-9.]+)M ")


def report(advised: int, touched: int, ended: Ended = "complete") -> Report:
    """Return the Report of a WILLNEED of 64 MiB."""
    return Report(
        *(Advice.WILLNEED, 64 * MIB, advised, (), 1, 0.1, 0.1, ended), touched=touched
    )


def told(result: Report, order: Order = ORDER) -> list[str]:
    """Return what is told of a report, without the name of its target."""
    found = lines([Outcome(TargetEntry(1, NOTHING), result)], order, None)
    return [line.removeprefix("1 x: ") for line in found]


pytestmark = pytest.mark.needs_root

MAPPED = (
    "are read ahead and mapped: the process has them in memory, and no page fault is "
    "left to it"
)
NOT_MAPPED = "were advised, and not mapped by --touch: "
LEFT_OUT = NOT_MAPPED + "mapped before, shared, or not readable"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (report(64 * MIB, 64 * MIB), [f"64.0 MiB {MAPPED}"]),
        (report(64 * MIB, 0), [f"64.0 MiB {LEFT_OUT}"]),
        (
            report(64 * MIB, 63 * MIB),
            [f"63.0 MiB {MAPPED}", f"1.0 MiB {LEFT_OUT}"],
        ),
        (
            report(64 * MIB, 4 * MIB, "timeout"),
            [f"60.0 MiB {NOT_MAPPED}the time was over", f"4.0 MiB {MAPPED}"],
        ),
        (
            report(64 * MIB, 4 * MIB, "cancelled"),
            [f"60.0 MiB {NOT_MAPPED}interrupted", f"4.0 MiB {MAPPED}"],
        ),
        (
            report(32 * MIB, 0, "timeout"),
            [
                "32.0 MiB not tried: the time was over",
                f"32.0 MiB {NOT_MAPPED}the time was over",
            ],
        ),
        (
            report(32 * MIB, 30 * MIB, "budget"),
            [
                "32.0 MiB not tried: the budget is used up",
                f"30.0 MiB {MAPPED}",
                f"2.0 MiB {LEFT_OUT}",
            ],
        ),
        (report(0, 0), []),
    ],
)
def test_words(result: Report, words: list[str]) -> None:
    """How much is mapped is told, and why it is not all that was advised."""
    assert told(result, replace(ORDER, budget=32 * MIB)) == words


def test_the_right_is_lost_while_pages_are_read() -> None:
    """The error tells how much is not mapped: nothing was left untried."""
    result = report(64 * MIB, 16 * MIB, "refused")
    assert str(why_ended(result, ORDER)) == (
        f"48.0 MiB {NOT_MAPPED}the permission was lost meanwhile"
    )
    assert told(result) == [f"16.0 MiB {MAPPED}"]


def test_no_words_of_a_dry_run() -> None:
    """A dry run maps nothing."""
    result = report(64 * MIB, 64 * MIB)
    assert told(result, replace(ORDER, dry_run=True)) == []


def test_touched_is_in_the_json_of_each_advice() -> None:
    """--json has the field, 0 without --touch."""
    outcome = Outcome(TargetEntry(1, NOTHING), report(64 * MIB, 7 * MIB))
    assert to_json(outcome, ORDER)["touched"] == 7 * MIB
    assert to_json(Outcome(TargetEntry(1), None), ORDER)["touched"] == 0


@pytest.mark.parametrize("verb", ["cold", "pageout", "collapse"])
def test_only_willneed_has_it(verb: str) -> None:
    """The other advices refuse it as wrong usage, in one line."""
    done = run(verb, 1, "--touch")
    assert (done.status, done.out, len(done.errors)) == (2, "", 1)
    assert "--touch" in done.err


def page_out(target: Target) -> None:
    """Page a target out, but for the pages that it touched last."""
    assert run("pageout", target.pid, "--quiet") == (0, "", "")
    assert target.status("VmSwap") > SIZE - MIB


@pytest.fixture
def swapped(target: Target) -> Target:
    """A target whose memory is in swap."""
    target.filled(SIZE)
    page_out(target)
    return target


@pytest.mark.needs_swap
def test_memory_is_mapped(swapped: Target) -> None:
    """What was in swap is in memory, without a step of the target."""
    before = swapped.status("VmRSS")
    [found] = run("willneed", swapped.pid, "--touch", "--json").objects
    assert found["touched"] == found["advised"] > SIZE - MIB
    assert (found["ended"], found["error"]) == ("complete", None)
    assert swapped.status("VmSwap") < MIB
    assert swapped.status("VmRSS") - before > SIZE - MIB


@pytest.mark.needs_swap
def test_without_it(swapped: Target) -> None:
    """Memory that is only read ahead is not mapped."""
    [found] = run("willneed", swapped.pid, "--json").objects
    assert (found["touched"], found["ended"]) == (0, "complete")
    assert swapped.status("VmSwap") > SIZE - MIB


@pytest.mark.needs_swap
def test_dry_run(swapped: Target) -> None:
    """A dry run reports what would be touched, and touches nothing."""
    done = run("willneed", swapped.pid, "--touch", "--json", "--dry-run")
    [found] = done.objects
    assert found["touched"] == found["advised"] > SIZE - MIB
    assert swapped.status("VmSwap") > SIZE - MIB


@pytest.mark.needs_swap
def test_budget(swapped: Target) -> None:
    """A budget that is used up is mapped, and is all that was asked."""
    done = run("willneed", swapped.pid, "--touch", "--json", "--budget", "8M")
    [found] = done.objects
    assert (found["advised"], found["touched"]) == (8 * MIB, 8 * MIB)
    assert (found["ended"], done.status) == ("budget", 0)


@pytest.mark.needs_swap
def test_table(swapped: Target) -> None:
    """The table has a column of it, and the words below."""
    done = run("willneed", swapped.pid, "--touch", COLUMNS="120")
    assert "touched" in done.out.split("\n")[1].split()
    assert "are read ahead and mapped" in done.out


@pytest.mark.parametrize("columns", [20, 40, 60, 80])
@pytest.mark.needs_swap
def test_narrow(swapped: Target, columns: int) -> None:
    """No line is longer than the terminal."""
    done = run("willneed", swapped.pid, "--touch", COLUMNS=str(columns))
    assert (done.status, done.err) == (0, "")
    assert max(map(len, done.out.split("\n"))) <= columns


@pytest.mark.parametrize(("options", "factor"), [((), 2.0), (("--budget", "16M"), 1.0)])
@pytest.mark.needs_swap
def test_bar(swapped: Target, options: tuple[str, ...], factor: float) -> None:
    """The bar counts each byte twice, advised and touched, and ends full."""
    with terminal(
        *("willneed", swapped.pid, "--touch", "--max-stall", "200us"), *options
    ) as running:
        assert running.finish() == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", running.output)
    bars = [(float(done), float(total)) for done, total in BYTES.findall(text)]
    done, total = bars[-1]
    assert {total for _, total in bars} == {total}
    assert done == total == pytest.approx(factor * SIZE / MIB, rel=0.15)


@pytest.mark.needs_swap
def test_no_time(swapped: Target) -> None:
    """A time that is over before anything is no success."""
    done = run("willneed", swapped.pid, "--touch", "--json", "--timeout", "0s")
    [found] = done.objects
    assert (found["ended"], found["touched"], done.status) == ("timeout", 0, 1)


@pytest.mark.needs_swap
def test_memory_that_may_not_be_read(target: Target) -> None:
    """Memory that is passed over is no failure, and is told."""
    address = target.filled(SIZE)
    page_out(target)
    target.run(f"protect({address}, {SIZE // 2}, 0)")
    done = run("willneed", target.pid, "--touch", COLUMNS="200")
    assert (done.status, done.err) == (0, "")
    assert f"MiB {LEFT_OUT}" in done.out
    assert f"MiB {MAPPED}" in done.out
