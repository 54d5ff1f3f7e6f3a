"""The plots that docs/ shows, one a benchmark; needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.harness import Plot, Result
from benchmarks.machine import Machine
from benchmarks.report import Point, number, points

COLOURS = ("#0b6e99", "#d9730d", "#4d6461", "#ad1a72", "#8f7a00")
"""Of about the same weight, and told apart by the colour-blind."""
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and sharp at any size
    "svg.hashsalt": "pmadvise",  # the same numbers are the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw(results: Sequence[Result], machine: Machine, folder: Path) -> list[Path]:
    """Draw what was measured, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(STYLE):
        for result in results:
            if result.plot is None or not result.samples:
                continue
            path = folder / f"{result.name}.svg"
            _figure(result, result.plot, machine).savefig(
                path, metadata={"Date": None, "Creator": None}
            )
            # matplotlib leaves blanks at the ends of lines
            lines = path.read_text(encoding="utf-8").split("\n")
            path.write_text("\n".join(map(str.rstrip, lines)), encoding="utf-8")
            written.append(path)
    return written


def _figure(result: Result, plot: Plot, machine: Machine) -> Figure:
    found = points(result, plot)
    as_lines = all(not isinstance(x, str) for row in found.values() for x, *_ in row)
    figure = Figure(figsize=(7, 3.6 if as_lines else _height(found)))
    axes = figure.add_subplot()
    (_lines if as_lines else _bars)(axes, plot, found)
    axes.set_title(result.title, loc="left", fontweight="bold")
    figure.text(
        0.99, 0.01, f"{machine.cpu}, Linux {machine.kernel}", ha="right", size=7,
        color="#777777",
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return figure


def _height(found: dict[str, list[Point]]) -> float:
    return 1.3 + 0.36 * sum(map(len, found.values()))


def _error(row: Sequence[Point]) -> list[list[float]]:
    """Return how far the quartiles are from the medians."""
    return [[m - low for _, m, low, _ in row], [high - m for _, m, _, high in row]]


def _lines(axes: Axes, plot: Plot, found: dict[str, list[Point]]) -> None:
    for (label, row), colour in zip(found.items(), COLOURS, strict=False):
        xs, medians = [x for x, *_ in row], [median for _, median, *_ in row]
        axes.errorbar(
            xs, medians, yerr=_error(row), label=label, color=colour, marker="o",
            markersize=4, capsize=2,
        )  # fmt: skip
    axes.set(xlabel=plot.xlabel, ylabel=plot.ylabel)
    if plot.log:
        axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(color="#dddddd")
    axes.legend()


def _bars(axes: Axes, plot: Plot, found: dict[str, list[Point]]) -> None:
    n = len(found)
    longest = max(median for row in found.values() for _, median, *_ in row)
    for i, ((label, row), colour) in enumerate(
        zip(found.items(), COLOURS, strict=False)
    ):
        at = [place + (i - (n - 1) / 2) * 0.8 / n for place in range(len(row))]
        medians = [median for _, median, *_ in row]
        axes.barh(
            at, medians, 0.74 / n, xerr=_error(row), label=label, color=colour,
            error_kw={"capsize": 2, "ecolor": "#333333"},
        )  # fmt: skip
        for place, (_, median, _, high) in zip(at, row, strict=True):
            behind = high * 1.12 if plot.log else high + longest * 0.015
            axes.text(behind, place, number(median), va="center", size=9)
    names = [str(x) for x, *_ in max(found.values(), key=len)]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel=plot.ylabel, ylabel=plot.xlabel)
    axes.margins(x=0.12)
    if plot.log:
        axes.set(xscale="log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(axis="x", color="#dddddd")
    if n > 1:  # above: bars leave no place
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=n)
