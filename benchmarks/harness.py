"""Measure cases in turn, and sum up: medians with spread, ratios, bounds."""

from __future__ import annotations

import os
import statistics
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import monotonic, perf_counter

Case = Callable[[], Mapping[str, float]]
"""Measures once; returns a sample of each quantity, by name."""
Samples = dict[str, list[float]]
"""The samples of each quantity, one a round."""

MIN_ROUNDS = 3


@dataclass(frozen=True)
class Bound:
    """What the median may be at the most, or at the least."""

    limit: float
    at_least: bool = False

    def holds(self, median: float) -> bool:
        """Return whether a median is within."""
        return median >= self.limit if self.at_least else median <= self.limit

    def __str__(self) -> str:
        """Return it as a table shows it."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        label: What it is.
        of: The quantity.
        unit: Of the value; "" for a ratio.
        per: Another quantity: the row has the ratio to it, round by round, so that a
            machine whose speed changes from round to round does not blur it.
        scale: What the samples are multiplied by.
        bound: What the median has to be.
        less: A third quantity, which is taken from both: what the ratio is not about.
    """

    label: str
    of: str
    unit: str = ""
    per: str = ""
    scale: float = 1
    bound: Bound | None = None
    less: str = ""

    def values(self, samples: Mapping[str, Sequence[float]]) -> list[float]:
        """Return the value of each round."""
        if not self.per:
            return [self.scale * value for value in samples.get(self.of, ())]
        ours, others = samples.get(self.of, ()), samples.get(self.per, ())
        less = samples.get(self.less, ()) if self.less else [0.0] * len(ours)
        rounds = zip(ours, others, less, strict=True)
        return [self.scale * (a - base) / (b - base) for a, b, base in rounds]


@dataclass(frozen=True)
class Plot:
    """A figure: a line (or a group of bars) of quantities for each label."""

    xlabel: str
    ylabel: str
    series: Mapping[str, Sequence[tuple[float | str, str]]]
    """By label: x, and the name of the quantity."""
    scale: float = 1
    log: bool = True
    """Both axes are logarithmic (of bars: the axis of values)."""


@dataclass
class Plan:
    """A benchmark that is set up."""

    cases: Sequence[Case]
    rows: Sequence[Row]
    rounds: int
    plot: Plot | None = None
    notes: Sequence[str] = ()
    """What the reader of the numbers has to know."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: how it is called, what it needs, and how it is set up."""

    name: str
    title: str
    set_up: Callable[[ExitStack], Plan]
    """What it leaves on the stack is undone at the end."""
    seconds: float
    """It ends after the round in which they are over."""
    needs: Sequence[str] = ()
    """Keys of needs.NEEDS."""


@dataclass(frozen=True)
class Figure:
    """A row, summed up."""

    label: str
    unit: str
    median: float
    low: float
    """The first quartile."""
    high: float
    """The third."""
    rounds: int
    bound: str
    holds: bool | None
    """None: it has no bound."""

    @classmethod
    def of(cls, row: Row, samples: Mapping[str, Sequence[float]]) -> Figure | None:
        """Sum up a row; None if it was never measured."""
        values = row.values(samples)
        if not values:
            return None
        low, median, high = quartiles(values)
        return cls(
            label=row.label,
            unit=row.unit,
            median=median,
            low=low,
            high=high,
            rounds=len(values),
            bound=str(row.bound or ""),
            holds=row.bound.holds(median) if row.bound else None,
        )


@dataclass
class Result:
    """What was measured of a benchmark."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plot: Plot | None = None
    samples: Samples = field(default_factory=dict)
    seconds: float = 0
    complete: bool = False
    """False: it was interrupted, or failed."""
    error: str = ""
    """Why it failed."""

    @property
    def holds(self) -> bool:
        """Whether it was measured, and every bound holds."""
        return not self.error and all(
            figure.holds is not False for figure in self.figures
        )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median, and the third."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


@contextmanager
def one_cpu(*pids: int) -> Iterator[None]:
    """Run this process, those that it starts, and others, on one CPU for a block.

    Ratios near their bound need it: CPUs of a shared machine differ in speed, and an
    interrupt of another one costs more than what is compared.
    """
    before = {pid: os.sched_getaffinity(pid) for pid in (0, *pids)}
    try:
        for pid in before:
            os.sched_setaffinity(pid, {min(before[0])})
        yield
    finally:
        for pid, cpus in before.items():
            os.sched_setaffinity(pid, cpus)


def there_and_back(*cases: Case) -> Mapping[str, float]:
    """Measure cases in turn and then backwards, on one CPU; return the means."""
    found: dict[str, float] = {}
    with one_cpu():
        for case in (*cases, *reversed(cases)):
            for name, value in case().items():
                found[name] = found.get(name, 0) + value / 2
    return found


def timed(name: str, work: Callable[[], object], times: int = 1) -> Case:
    """Return a case: the seconds that `work` takes, of so many times in a row."""

    def case() -> Mapping[str, float]:
        begin = perf_counter()
        for _ in range(times):
            work()
        return {name: (perf_counter() - begin) / times}

    return case


def measure(
    plan: Plan,
    seconds: float,
    samples: Samples,
    on_round: Callable[[int], object] = lambda _: None,
) -> None:
    """Run the rounds, each of which has every case once, there and back in turn.

    An exception leaves in `samples` the rounds that are whole.
    """
    end = monotonic() + seconds
    for number in range(plan.rounds):
        if number >= MIN_ROUNDS and monotonic() >= end:
            break
        on_round(number)
        measured: dict[str, float] = {}
        for case in plan.cases if number % 2 == 0 else reversed(plan.cases):
            measured.update(case())
        for name, value in measured.items():
            samples.setdefault(name, []).append(value)


def run(
    benchmark: Benchmark,
    result: Result,
    on_round: Callable[[int, int], object] = lambda *_: None,
) -> None:
    """Set up, measure, sum up; an exception leaves in `result` what was measured.

    An Exception is a result, for the others to run; what ends the run is raised.
    """
    begin = monotonic()
    try:
        _run(benchmark, result, on_round)
    except Exception as error:
        traceback.print_exc()
        result.error = f"{type(error).__name__}: {error}"
    finally:
        result.seconds = monotonic() - begin


def _run(
    benchmark: Benchmark, result: Result, on_round: Callable[[int, int], object]
) -> None:
    with ExitStack() as stack:
        on_round(0, 0)
        plan = benchmark.set_up(stack)
        result.plot, result.notes = plan.plot, list(plan.notes)
        try:
            measure(
                plan,
                benchmark.seconds,
                result.samples,
                lambda number: on_round(number + 1, plan.rounds),
            )
            result.complete = True
        finally:
            found = [Figure.of(row, result.samples) for row in plan.rows]
            result.figures = [figure for figure in found if figure]
