"""The harness of the benchmarks: statistics, bounds, what it prints, how it ends."""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.needs import ROOT

pytestmark = pytest.mark.needs_sources

MODULES = ("command", "harness", "machine", "needs", "report")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of benchmarks/ that need no package beside pmadvise."""
    monkeypatch.syspath_prepend(str(ROOT))
    found = {name: importlib.import_module(f"benchmarks.{name}") for name in MODULES}
    return SimpleNamespace(**found)


def series(name: str, values: list[float]) -> Any:
    """Return a case that measures these values, one a round."""
    left = iter(values)
    return lambda: {name: next(left)}


def benchmark(bench: Any, name: str = "one", limit: float = 3, **plan: Any) -> Any:
    """Return a benchmark of three rounds, of 'a' and of 'b', bounded in a / b."""
    made: dict[str, Any] = {
        "cases": [series("a", [2, 4, 9]), series("b", [1, 2, 3])],
        "rows": [
            bench.harness.Row("first", "a", "ms", scale=1000),
            bench.harness.Row("to b", "a", per="b", bound=bench.harness.Bound(limit)),
        ],
        "rounds": 3,
        "plot": bench.harness.Plot("x", "y", {"line": [(1, "a"), (2, "b")]}),
        **plan,
    }
    return bench.harness.Benchmark(
        name, f"Title of {name}", lambda _: bench.harness.Plan(**made), 60
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], (7, 7, 7)),
        ([1, 3], (1.5, 2, 2.5)),
        ([5, 1, 2, 4, 3], (2, 3, 4)),
        ([1, 1, 1, 1, 1000], (1, 1, 1)),
    ],
)
def test_quartiles(bench: Any, values: list[float], expected: tuple[float]) -> None:
    """The median and the quartiles around it, which outliers do not move."""
    assert bench.harness.quartiles(values) == expected


@pytest.mark.parametrize(
    ("at_least", "median", "holds"),
    [(False, 1.06, True), (False, 1.061, False), (True, 15, True), (True, 14.9, False)],
)
def test_bounds(bench: Any, at_least: bool, median: float, holds: bool) -> None:
    """A bound is from above or from below, and what it names is within."""
    bound = bench.harness.Bound(15 if at_least else 1.06, at_least)
    assert bound.holds(median) is holds


def test_ratios_are_of_the_same_round(bench: Any) -> None:
    """A row's ratio is the median of each round's, not the ratio of two medians."""
    row = bench.harness.Row("", "a", per="b")
    assert row.values({"a": [10, 2, 30], "b": [10, 1, 10]}) == [1, 2, 3]


def test_rounds_are_interleaved(bench: Any) -> None:
    """Every round has every case once, there and back in turn."""
    order: list[str] = []

    def case(name: str) -> Any:
        def measure() -> Mapping[str, float]:
            order.append(name)
            return {name: 1}

        return measure

    plan = bench.harness.Plan([case("a"), case("b")], [], rounds=3)
    bench.harness.measure(plan, 60, {})
    assert "".join(order) == "abbaab"


def test_time_ends_it(bench: Any) -> None:
    """When its seconds are over a benchmark ends, after a few rounds at least."""
    samples: dict[str, list[float]] = {}
    plan = bench.harness.Plan([series("a", [1.0] * 100)], [], rounds=100)
    bench.harness.measure(plan, 0, samples)
    assert samples == {"a": [1.0] * bench.harness.MIN_ROUNDS}


def test_table(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has medians, quartiles, and the bound that holds."""
    assert bench.command.main([benchmark(bench)], []) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.split("\n")]
    assert lines[1:4] == [
        "Title of one (one)",
        "first 4,000 ms 3,000 to 6,500",
        "to b 2.000 2.000 to 2.500 ≤ 3 holds",
    ]


def test_a_bound_that_does_not_hold(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is marked in both tables, and the exit status is 1."""
    assert bench.command.main([benchmark(bench, limit=1.9)], ["--markdown"]) == 1
    out = capsys.readouterr().out
    assert "≤ 1.9  DOES NOT HOLD" in out
    assert "| to b | 2.000 | 2.000 to 2.500 | **≤ 1.9, does not hold** |" in out


def test_one_that_fails(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are measured, the reason is in the table, the exit status is 1."""

    def fail() -> Mapping[str, float]:
        raise RuntimeError("no such thing")

    suite = [benchmark(bench, "bad", cases=[fail]), benchmark(bench, "good")]
    assert bench.command.main(suite, []) == 1
    out = capsys.readouterr().out
    assert "Title of bad (bad), FAILED: RuntimeError: no such thing" in out
    assert "Title of good (good)\n" in out


@pytest.fixture
def handlers() -> Iterator[None]:
    """See that the handling of signals is as before."""
    both = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(one) for one in both]
    yield
    assert [signal.getsignal(one) for one in both] == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    bench: Any, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM give what was measured so far, all set up being undone."""
    undone: list[str] = []
    rounds = iter(range(10))

    def interrupted() -> Mapping[str, float]:
        if next(rounds) == 2:
            signal.raise_signal(number)
        return {"a": 1}

    def set_up(stack: ExitStack) -> Any:
        stack.callback(undone.append, "undone")
        row = bench.harness.Row("first", "a", "ms")
        return bench.harness.Plan([interrupted], [row], rounds=10)

    suite = [
        bench.harness.Benchmark("one", "One", set_up, 60),
        benchmark(bench, "two"),
    ]
    assert bench.command.main(suite, []) == 128 + number
    out = capsys.readouterr().out
    assert (undone, "two" in out) == (["undone"], False)
    assert "One (one), interrupted\n  first  1.000 ms" in out


def test_unknown_name(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is not there is wrong usage, and those that are there are listed."""
    with pytest.raises(SystemExit) as caught:
        bench.command.main([benchmark(bench)], ["--only", "none"])
    assert caught.value.code == 2
    assert "no benchmark is named 'none': one" in capsys.readouterr().err


def test_only(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """--only runs those that it names."""
    suite = [benchmark(bench, name) for name in ("one", "two", "three")]
    assert bench.command.main(suite, ["--only", "three", "--only", "one"]) == 0
    out = capsys.readouterr().out
    assert [name in out for name in ("(one)", "(two)", "(three)")] == [
        True,
        False,
        True,
    ]


def test_list(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """--list prints names and titles, and runs nothing."""
    failing = benchmark(bench, cases=[])
    assert bench.command.main([failing], ["--list"]) == 0
    assert capsys.readouterr().out == "one  Title of one\n"


def test_missing(
    bench: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the host lacks is reported before anything runs: what, why, for which."""
    monkeypatch.setitem(bench.needs.NEEDS, "root", lambda: "root, to do this: sudo")
    needing = bench.harness.Benchmark("one", "One", lambda _: 1 / 0, 60, ("root",))
    assert bench.command.main([needing], []) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "  root, to do this: sudo (one)\n" in captured.err


def test_json(bench: Any, tmp_path: Path) -> None:
    """The document has the machine, every sample, and every figure with its bound."""
    path = tmp_path / "all.json"
    bench.command.main([benchmark(bench)], ["--json", str(path)])
    document = json.loads(path.read_text())
    assert set(document) == {
        *("schema", "machine", "seconds", "complete", "holds", "benchmarks")
    }
    assert set(document["machine"]) == {
        *("cpu", "cpus", "memory", "kernel", "architecture", "python", "pmadvise"),
        *("date", "load"),
    }
    (one,) = document["benchmarks"]
    assert (document["schema"], document["complete"], document["holds"]) == (
        1,
        True,
        True,
    )
    assert one["samples"] == {"a": [2, 4, 9], "b": [1, 2, 3]}
    assert one["figures"][1] == {
        "label": "to b",
        "unit": "",
        "median": 2,
        "low": 2,
        "high": 2.5,
        "rounds": 3,
        "bound": "≤ 3",
        "holds": True,
    }


def test_points(bench: Any) -> None:
    """A plot shows medians and quartiles, of what was measured."""
    result = bench.harness.Result("one", "One", samples={"a": [2, 4, 9]})
    plot = bench.harness.Plot("", "", {"line": [(1, "a"), (2, "b")]}, scale=10)
    assert bench.report.points(result, plot) == {"line": [(1, 40, 30, 65)]}


def test_readme(bench: Any, tmp_path: Path) -> None:
    """--readme puts the short table between the marks, and changes nothing else."""
    path = tmp_path / "README.md"
    begin, end = bench.report.MARKS
    path.write_text(f"before\n{begin}old\n{end}\nafter\n")
    bench.command.main([benchmark(bench)], ["--readme", str(path)])
    head, _, rest = path.read_text().partition(begin)
    block, _, tail = rest.partition(end)
    assert (head, tail) == ("before\n", "\nafter\n")
    assert "| to b | 2.000 | 2.000 to 2.500 | ≤ 3 |" in block
    assert "old" not in block
    assert "first" not in block


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_the_marks_are_there(bench: Any, page: str) -> None:
    """README and the guide have a place for the table."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [text.count(mark) for mark in bench.report.MARKS] == [1, 1]


def test_there_and_back_is_the_mean_on_one_cpu(bench: Any) -> None:
    """The order turns round, so that a drift cancels out; the CPUs are as before."""
    order, drift = [], iter([1.0, 2.0, 3.0, 4.0])
    before = os.sched_getaffinity(0)

    def case(name: str) -> dict[str, float]:
        assert len(os.sched_getaffinity(0)) == 1
        order.append(name)
        return {name: next(drift)}

    found = bench.harness.there_and_back(lambda: case("a"), lambda: case("b"))
    assert (order, found) == (["a", "b", "b", "a"], {"a": 2.5, "b": 2.5})
    assert os.sched_getaffinity(0) == before
