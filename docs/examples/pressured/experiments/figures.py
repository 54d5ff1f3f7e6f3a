"""Numbers of many runs: percentiles, medians, and how far the runs are apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Of the curve that is plotted: even steps in powers of ten towards the slowest.
LEVELS = tuple(1 - 10 ** (-step / 20) for step in range(81))


def percentile(ordered: Sequence[float], level: float) -> float:
    """Return the least value that a share of all values does not exceed.

    Args:
        ordered: Values in ascending order, at least one.
        level: The share, from 0 to 1: 0.99 for the 99th percentile.

    Raises:
        ValueError: There are no values.
    """
    if not ordered:
        raise ValueError("no values have no percentile")
    rank = math.ceil(round(level * len(ordered), 6))  # 0.07 * 100 is above 7
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def curve(ordered: Sequence[float]) -> list[float]:
    """Return the percentiles at LEVELS."""
    return [percentile(ordered, level) for level in LEVELS]


@dataclass(frozen=True)
class Summary:
    """The median of some runs, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Sum up the runs.

        Raises:
            ValueError: There was no run.
        """
        ordered = sorted(values)
        if not ordered:
            raise ValueError("no run has no median")
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True)
class Column:
    """A figure that each run gives."""

    key: str
    title: str
    digits: int = 0
    is_count: bool = False
    """It is 1 or 0: runs are counted, not averaged."""

    def show(self, values: Sequence[float]) -> str:
        """Return the figure of some runs: the median, then the least to the most."""
        if self.is_count:
            return f"{sum(map(bool, values))} of {len(values)}"
        one = Summary.of(values)
        median, least, most = (
            f"{n:,.{self.digits}f}" for n in (one.median, one.least, one.most)
        )
        return median if least == most else f"{median} ({least} to {most})"


@dataclass
class Sample:
    """What one run gave."""

    values: dict[str, float]
    series: dict[str, list[float]] = field(default_factory=dict)
    """For plots."""


Samples = dict[str, list[Sample]]
"""The runs of each case."""


def values(samples: Samples, case: str, key: str) -> list[float]:
    """Return one figure of all runs of a case."""
    return [sample.values[key] for sample in samples.get(case, ())]


@dataclass(frozen=True)
class Goal:
    """What an experiment is required to show."""

    text: str
    met: bool


def times_lower(samples: Samples, key: str, case: str, than: str) -> float | None:
    """Return how many times lower the median of one case is; None without runs."""
    ours, theirs = values(samples, case, key), values(samples, than, key)
    if not ours or not theirs:
        return None
    return Summary.of(theirs).median / Summary.of(ours).median
