"""The results: as a table, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import Figure, Plot, Result, quartiles
from benchmarks.machine import Machine

SCHEMA = 1
MARKS = ("<!-- benchmarks:begin -->\n", "<!-- benchmarks:end -->")
HEAD = ("", "median", "quartiles", "bound", "")


def number(value: float) -> str:
    """Return a number with three or more digits that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def cells(figure: Figure) -> tuple[str, str, str, str, str]:
    """Return what a line of the table has."""
    verdict = {None: "", True: "holds", False: "DOES NOT HOLD"}[figure.holds]
    unit = f" {figure.unit}" if figure.unit else ""
    spread = f"{number(figure.low)} to {number(figure.high)}"
    return figure.label, number(figure.median) + unit, spread, figure.bound, verdict


def text(results: Sequence[Result]) -> str:
    """Return the table for a terminal."""
    lines = []
    rows = [cells(figure) for result in results for figure in result.figures]
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    for result in results:
        lines.append(f"{result.title} ({result.name}){incomplete(result)}")
        for figure in result.figures:
            columns = zip(cells(figure), widths, "<>><<", strict=True)
            line = "  ".join(f"{cell:{side}{w}}" for cell, w, side in columns)
            lines.append(f"  {line}".rstrip())
        lines += [f"  ({note})" for note in result.notes]
    return "\n".join(lines)


def incomplete(result: Result) -> str:
    """Return how to mark a benchmark that was interrupted."""
    if result.error:
        return f", FAILED: {result.error}"
    if result.complete:
        return ""
    return ", interrupted" if result.figures else ", interrupted: nothing measured"


def markdown(
    results: Sequence[Result], machine: Machine, *, bounds_only: bool = False
) -> str:
    """Return the table as Markdown, with the machine."""
    lines = [f"Medians, on {machine}.", ""]
    lines += ["| | median | quartiles | bound |", "|---|--:|--:|--:|"]
    for result in results:
        if bounds_only and result.complete and not any(f.bound for f in result.figures):
            continue
        lines.append(f"| **{result.title}**{incomplete(result)} | | | |")
        for figure in result.figures:
            if bounds_only and not figure.bound:
                continue
            label, median, spread, bound, _ = cells(figure)
            if figure.holds is False:
                bound = f"**{bound}, does not hold**"
            lines.append(f"| {label} | {median} | {spread} | {bound} |")
    return "\n".join(lines) + "\n"


def rewrite(page: Path, block: str) -> None:
    """Put the table between the marks of a page.

    Raises:
        ValueError: The marks are missing.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise ValueError(f"{page} lacks the lines {MARKS[0]!r} and {MARKS[1]!r}")
    page.write_text(before + begin + block + end + after, encoding="utf-8")


def document(
    results: Sequence[Result], machine: Machine, seconds: float
) -> dict[str, object]:
    """Return all of it for json.dumps()."""
    return {
        "schema": SCHEMA,
        "machine": asdict(machine),
        "seconds": seconds,
        "complete": all(result.complete for result in results),
        "holds": all(result.holds for result in results),
        "benchmarks": [
            {
                "name": result.name,
                "title": result.title,
                "seconds": result.seconds,
                "complete": result.complete,
                "error": result.error,
                "notes": result.notes,
                "figures": [asdict(figure) for figure in result.figures],
                "samples": {
                    name: [float(f"{value:.5g}") for value in values]
                    for name, values in result.samples.items()
                },
                "plot": asdict(result.plot) if result.plot else None,
            }
            for result in results
        ],
    }


Point = tuple[float | str, float, float, float]
"""x, the median, and the quartiles around it."""


def points(result: Result, plot: Plot) -> dict[str, list[Point]]:
    """Return what a plot shows: of each label, the points that were measured."""
    found: dict[str, list[Point]] = {}
    for label, series in plot.series.items():
        found[label] = []
        for x, name in series:
            if values := result.samples.get(name):
                low, median, high = (plot.scale * one for one in quartiles(values))
                found[label].append((x, median, low, high))
    return found
