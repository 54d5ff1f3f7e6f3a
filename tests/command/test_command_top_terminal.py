"""`pmadvise top` on a terminal: as many rows as fit, whole numbers, --watch."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator

import pytest
from helpers.command import run, terminal
from helpers.targets import MIB, Target
from rich.segment import Segments

from pmadvise.command.options import Wanted
from pmadvise.command.output import Output
from pmadvise.command.ranking import Ranking

UNSEEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
N_CHILDREN = 30
LINES = 12

pytestmark = pytest.mark.needs_root


@pytest.fixture
def crowd(target: Target) -> Iterator[list[int]]:
    """A target and its children."""
    target.filled(8 * MIB)
    children = [target.run("fork()") for _ in range(N_CHILDREN)]
    yield [target.pid, *children]
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def plain(output: bytes) -> str:
    """Return the text of what a terminal was sent."""
    return UNSEEN.sub("", output.decode()).replace("\r", "")


@pytest.mark.parametrize("columns", [33, 40, 60, 80, 132])
def test_as_many_as_fit(crowd: list[int], columns: int) -> None:
    """The rows and the line below them leave a line of the terminal for the prompt."""
    with terminal("top", "--tree", crowd[0], size=(LINES, columns)) as running:
        assert running.finish() == 0
    lines = plain(running.output).split("\n")
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= columns
    assert re.search(rf"\d+ of {N_CHILDREN + 1} processes", " ".join(lines))
    if columns >= 80:  # a row is a line
        assert len(lines) == LINES


@pytest.mark.parametrize("columns", [20, 80])
def test_all(crowd: list[int], columns: int) -> None:
    """With --all, and through a pipe, every process is there."""
    arguments = ("top", "--tree", crowd[0])
    with terminal(*arguments, "--all", size=(LINES, columns)) as running:
        assert running.finish() == 0
    for text in (plain(running.output), run(*arguments).out):
        assert [pid for pid in crowd if not re.search(rf"\b{pid}\b", text)] == []
        assert "--all" not in text


@pytest.mark.parametrize("columns", [*range(20, 101, 5), *range(66, 74)])
def test_whole_numbers(
    monkeypatch: pytest.MonkeyPatch, target: Target, columns: int
) -> None:
    """Whatever the width every number is whole, and a cut name has its mark."""
    monkeypatch.setenv("COLUMNS", str(columns))
    target.filled(32 * MIB)
    target.run("prctl(PR_SET_NAME, b'\\x1b[2J\\x1b[31m\\x1b[0m')")
    target.run("os.setresuid(4000000000, 4000000000, 4000000000)")
    ranking = Ranking(Wanted(pids=(target.pid,)), "rss", is_watch=False)
    lines = [
        line
        for part in ranking.render(Output(), every=True)
        if isinstance(part, Segments)
        for line in "".join(segment.text for segment in part.segments).split("\n")
    ]
    assert max(map(len, lines)) <= columns
    words = " ".join(lines).split()
    assert {str(target.pid), "4000000000", "0B"} <= set(words)
    assert [word for word in words if re.fullmatch(r"[0-9.]+M", word)] != []
    [name] = [word for word in words if word.endswith(r"\x1b[0m")]
    assert (name[0], len(name)) == ("…", 15)
    [row] = ranking.rows
    assert row.cgroup is not None
    assert [w for w in words if row.cgroup.endswith(w.removeprefix("…")) and w] != []


def test_watch(target: Target) -> None:
    """--watch draws at the same place, shares of a CPU, until Ctrl-C: status 130."""
    with terminal("top", target.pid, "--watch", "20ms") as running:
        running.read_until(lambda output: output.count(b"cgroup") >= 3)
        running.interrupt()
        assert running.finish() == 130
    assert re.search(rb"\x1b\[[0-9]*A", running.output)  # cursor up
    assert b"Traceback" not in running.output
    assert "0.0%" in plain(running.output)


def test_a_terminal_that_is_too_small(crowd: list[int]) -> None:
    """One process is there, whatever the height."""
    with terminal("top", "--tree", crowd[0], size=(4, 20)) as running:
        assert running.finish() == 0
    text = " ".join(plain(running.output).split())
    assert re.search(rf"^PID \d+ .* 1 of {N_CHILDREN + 1} processes", text)


def test_watch_ends_with_the_targets(crowd: list[int]) -> None:
    """It ends when none is left; members that end before are no failure."""
    with terminal("top", "--tree", crowd[1], "--watch", "20ms") as running:
        running.read_until(lambda output: b"cgroup" in output)
        os.kill(crowd[1], signal.SIGKILL)
        assert running.finish() == 0
    assert "pmadvise: " not in plain(running.output)


def test_watch_goes_on_without_a_process(target: Target) -> None:
    """One that was given by its ID and ends is a line, once; the others stay."""
    with terminal("top", target.pid, 1, "--watch", "20ms") as running:
        running.read_until(lambda output: b"cgroup" in output)
        target.kill()
        running.read_until(lambda output: b"pmadvise: " in output)
        seen = running.output.count(b"cgroup")
        running.read_until(lambda output: output.count(b"cgroup") > seen + 3)
        running.interrupt()
        assert running.finish() == 130
    assert plain(running.output).count("pmadvise: ") == 1


def test_watch_finds_new_members(target: Target) -> None:
    """With --json each look has the members as they are then."""
    arguments = ("top", "--json", "--tree", target.pid, "--watch", "20ms")
    with terminal(*arguments) as running:
        running.read_until(lambda output: output.count(b"\n") >= 2)
        child = target.run("fork()")
        running.read_until(lambda output: b'{"pid": %d' % child in output)
        os.kill(child, signal.SIGKILL)
        running.interrupt()
        assert running.finish() == 130
    lines = plain(running.output).split("\n")
    found = [json.loads(line)["pid"] for line in lines if line.startswith('{"pid')]
    assert {*found} == {target.pid, child}
