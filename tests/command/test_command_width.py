"""Widths: from 20 columns on every number is whole, and a cut name has its mark."""

from __future__ import annotations

import re

import pytest
from helpers.command import run, run_here, terminal
from helpers.targets import MIB, Target

from pmadvise.command.table import Column, Table

WIDTHS = (20, 21, 27, 33, 40, 52, 60, 72, 80, 100, 132, 200)

pytestmark = pytest.mark.needs_root


def text_of(table: Table, width: int) -> list[str]:
    """Return the lines of a table."""
    parts = [segment.text for part in table.render(width) for segment in part.segments]
    return "".join(parts).split("\n")[:-1]


@pytest.fixture
def table() -> Table:
    """A table whose row has numbers as long as they get."""
    columns = [
        Column("PID"),
        Column("name", "name"),
        *map(Column, ("asked", "in memory", "in swap")),
        Column("", "extra"),
        Column("longest\ncall"),
    ]
    made = Table(columns, "…", "─")
    made.add(
        *("4194304", "a-name-of-15-ch", "1023M", "1023M→1023M"),
        *((("1.2G→1.2G", "red"),), (("####", "green"),), "12m05s"),
    )
    return made


@pytest.mark.parametrize("width", range(20, 100))
def test_table(table: Table, width: int) -> None:
    """Whatever the width: no longer line, every number there, and a cut marked."""
    lines = text_of(table, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert {"4194304", "1023M", "1023M→1023M", "1.2G→1.2G", "12m05s"} <= set(words)
    [name] = [word for word in words if word.endswith("15-ch")]
    assert name[0] == "…" or name == "a-name-of-15-ch"


def test_a_row_is_a_line_in_80_columns(target: Target) -> None:
    """Where a terminal has 80 columns a target is one line of the table."""
    target.filled(MIB)
    lines = run("cold", target.pid, COLUMNS="80").out.split("\n")
    [row] = [line for line in lines if "→" in line]
    assert (row.split()[0], len(row.split())) == (str(target.pid), 9)


@pytest.mark.parametrize("columns", [*WIDTHS, 0])
@pytest.mark.parametrize(
    "arguments",
    [("top",), ("show",), ("show", "--all"), ("cold",), ("check",)],
    ids=" ".join,
)
def test_every_width(target: Target, arguments: tuple[str, ...], columns: int) -> None:
    """No line is longer than the terminal, and the whole process ID is there."""
    done = run_here(*arguments, target.pid, COLUMNS=str(columns))
    assert (done.status, done.err) == (0, "")
    assert max(map(len, done.out.split("\n"))) <= (columns or 80)
    assert re.search(rf"\b{target.pid}\b", done.out)


@pytest.mark.parametrize("columns", [20, 40])
def test_narrow_terminal(target: Target, columns: int) -> None:
    """A terminal tells its width itself, and is not wrapped by chance."""
    target.filled(MIB)
    with terminal(
        "cold", target.pid, size=(24, columns), variables={"NO_COLOR": "1"}
    ) as running:
        assert running.finish() == 0
    assert f"PID\x1b[0m {target.pid}".encode() in running.output


def test_no_width_of_the_terminal(target: Target) -> None:
    """A terminal of 0 columns, as a serial line has, gets the results."""
    with terminal("cold", target.pid, size=(0, 0)) as running:
        assert running.finish() == 0
    assert str(target.pid).encode() in running.output
