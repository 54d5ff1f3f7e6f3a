"""House: the pictures of the layers and the rings, ``python tests/house.py``.

It writes the parts of CONTRIBUTING.md and README.md that are between its marks anew,
from the table of the layers and from the sources.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

from helpers.layers import LAYERS, PATH, SPLIT, read_package, ring, room
from helpers.needs import ROOT

COLUMNS = {3: "ring 3: people", 2: "ring 2: a process", 1: "ring 1: the two calls"}
"""The rings as the picture has them, from left to right."""

RINGS = {
    1: "the two [calls](docs/calls.md), checked, with the reason of each refusal: "
    "enough for a daemon that selects the memory itself",
    2: "what makes them safe for a whole process: `Process`, the engine, `hold`, idle "
    "memory, groups, cgroups, `Pressure`",
    3: "what helps people: the [command](docs/command.md), the selftest, and "
    "[pressured](docs/examples/pressured/README.md)",
}
DAEMON = "docs/examples/pressured"


def c_files() -> dict[str, str]:
    """Map each file of C to the module of _native that calls it."""
    return {path.name: f"_native.{path.stem}" for path in (ROOT / "csrc").glob("*.c")}


def cells(row: list[str], column: int, modules: list[str]) -> list[str]:
    """Return the lines of a row of layers in the column of a ring."""
    names = []
    for layer in row:
        files = [module for module in modules if room(module) == layer]
        name = f"{layer}/" if any("." in module for module in files) else layer
        if layer == "_ffi":
            name, files = "csrc/", list(c_files().values())
        inside = sum(ring(file) == column for file in files)
        if layer in SPLIT:
            name += f" {inside} file{'s' * (inside > 1)}"
        if inside:
            names.append(name)
    return ["  ".join(names[start : start + 2]) for start in range(0, len(names), 2)]


def house() -> str:
    """Return the layers, the highest first, and the way of a pageout through them."""
    modules = list(read_package(ROOT / "pmadvise"))
    rows: list[tuple[str, ...]] = [(*COLUMNS.values(), "a pageout()"), ("",) * 4]
    for row in reversed([line.split() for line in LAYERS.split("\n") if line.strip()]):
        columns = [cells(row, column, modules) for column in COLUMNS]
        way = [name for module, name in PATH if room(module) in row]
        rows += zip_longest(*columns, way, fillvalue="")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows[1] = tuple("-" * width for width in widths)
    lines = [
        "   ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(["```text", *(line.rstrip() for line in lines), "```", ""])


def lines_of(path: Path) -> int:
    """Return how many lines a file has."""
    return path.read_text(encoding="utf-8").count("\n")


def sizes(number: int) -> tuple[int, int]:
    """Return the lines of Python and of C in a ring."""
    package = read_package(ROOT / "pmadvise")
    python = sum(package[name].count("\n") for name in package if ring(name) == number)
    c = [name for name, module in c_files().items() if ring(module) == number]
    if number == 1:
        c += [path.name for path in (ROOT / "csrc").glob("*.h")]
    if number == 3:
        python += sum(map(lines_of, (ROOT / DAEMON).glob("*.py")))
    return python, sum(lines_of(ROOT / "csrc" / name) for name in c)


def rings() -> str:
    """Return the table of the rings, with their lines in hundreds."""
    table = ["| ring | has | lines of Python | of C |", "|--:|---|--:|--:|"]
    for number, words in RINGS.items():
        python, c = (f"{size:,}" for size in (round(n, -2) for n in sizes(number)))
        table.append(f"| {number} | {words} | {python} | {c} |")
    return "\n".join([*table, ""])


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"rings": rings},
    "CONTRIBUTING.md": {"rings": rings, "house": house},
}
"""The parts of each document, and what draws them."""


def written(text: str, name: str, part: str) -> str:
    """Return a document with one of its parts drawn anew.

    Raises:
        ValueError: It has no marks for it.
    """
    marks = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise ValueError(f"the lines {marks[0]!r} and {marks[1]!r} are missing")
    return before + begin + part + end + after


def drawn(document: str) -> str:
    """Return a document with all of its parts drawn anew."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for name, draw in PARTS[document].items():
        text = written(text, name, draw())
    return text


def main() -> int:
    """Write every part; return the exit status."""
    for document in PARTS:
        (ROOT / document).write_text(drawn(document), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
