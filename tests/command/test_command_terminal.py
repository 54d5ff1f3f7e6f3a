"""On a terminal: the bars, Ctrl-C, refreshing in place, colours."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import Terminal, run, terminal
from helpers.targets import MIB, Target

SLOW = ("--max-stall", "100us")
"""So many small calls that a test can act in the middle."""
LARGE = 384 * MIB

pytestmark = pytest.mark.needs_root


UNSEEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(output: bytes) -> str:
    """Return the text of what a terminal was sent."""
    return UNSEEN.sub("", output.decode()).replace("\r", "")


def has_begun(output: bytes) -> bool:
    """Return whether a bar shows that bytes were advised."""
    return re.search(r" (?!0B/)[0-9.]+[KMG]/[0-9.]+M", plain(output)) is not None


@pytest.fixture
def large(target: Target) -> Target:
    """A target with so much memory that to advise it takes a while."""
    target.filled(LARGE)
    return target


def test_bar(large: Target) -> None:
    """A bar counts bytes, with the rate, and the table stands below it."""
    with terminal("cold", large.pid, *SLOW) as running:
        assert running.finish() == 0
    text = plain(running.output)
    assert re.search(rf"{large.pid} \S+ .*[0-9.]+M/[0-9.]+M +[0-9.]+[KMG]/s", text)
    assert text.index("/s") < text.index("asked")
    lines = re.split(r"[\r\n]", UNSEEN.sub("", running.output.decode()))
    assert max(map(len, lines)) <= 80


def test_no_bar_for_a_pipe(target: Target) -> None:
    """Where stderr is no terminal nothing is drawn."""
    assert run("cold", target.pid).err == ""


def test_no_bar_when_quiet(large: Target) -> None:
    """--quiet draws nothing."""
    with terminal("cold", large.pid, "--quiet") as running:
        assert (running.finish(), running.output) == (0, b"")


def interrupted(running: Terminal) -> int:
    """Press Ctrl-C as soon as a bar shows that bytes were advised."""
    running.read_until(has_begun)
    running.interrupt()
    return running.finish()


def test_interrupt(large: Target) -> None:
    """Ctrl-C ends the work cleanly: the report, and status 130."""
    with terminal("cold", large.pid, *SLOW) as running:
        assert interrupted(running) == 130
    text = plain(running.output)
    assert "not tried: interrupted" in text.replace("\n", " ")
    assert "Traceback" not in text


@pytest.mark.parametrize("selection", [(), ("--anon",)], ids=str)
def test_interrupt_is_accounted_for(large: Target, selection: tuple[str, ...]) -> None:
    """The report is exact: all that was asked for is advised, or was not tried."""
    with terminal("cold", large.pid, large.pid, "--json", *SLOW, *selection) as running:
        assert interrupted(running) == 130
    [line] = [one for one in plain(running.output).split("\n") if one.startswith("{")]
    found = json.loads(line)
    assert found["ended"] == "cancelled"
    assert 0 < found["advised"] < found["requested"]
    assert found["advised"] + found["not_tried"] == found["requested"]


def test_a_target_dies(large: Target) -> None:
    """One that dies in the middle is one line, and status 1."""
    with terminal("cold", large.pid, *SLOW) as running:
        running.read_until(has_begun)
        os.kill(large.pid, signal.SIGKILL)
        assert running.finish() == 1
    lines = [one for one in plain(running.output).split("\n") if "pmadvise: " in one]
    assert len(lines) == 1
    assert "Traceback" not in plain(running.output)


def test_watch(target: Target) -> None:
    """--watch draws again at the same place, until Ctrl-C: status 130."""
    with terminal("show", target.pid, "--watch", "20ms", size=(40, 80)) as running:
        running.read_until(lambda output: output.count(b"in swap   ") >= 3)
        running.interrupt()
        assert running.finish() == 130
    assert re.search(rb"\x1b\[[0-9]*A", running.output)  # cursor up
    assert b"Traceback" not in running.output


def test_watch_ends_with_the_target(target: Target) -> None:
    """It ends when the last target has gone."""
    with terminal("show", target.pid, "--watch", "20ms") as running:
        running.read_until(lambda output: b"in swap   " in output)
        target.kill()
        assert running.finish() in (0, 1)
    assert b"Traceback" not in running.output


@pytest.mark.parametrize("variable", ["NO_COLOR", "UNKNOWN"])
def test_no_color(target: Target, variable: str) -> None:
    """NO_COLOR turns colours off; without it there are some."""
    with terminal("show", target.pid, variables={variable: "1"}) as running:
        assert running.finish() == 0
    colours = re.findall(rb"\x1b\[[0-9;]*3[0-7][;m]", running.output)
    assert bool(colours) is (variable != "NO_COLOR")


def test_a_reader_that_leaves(target: Target, tmp_path: Path) -> None:
    """A reader that has seen enough is no traceback."""
    errors = tmp_path / "errors"
    subprocess.run(
        f"{sys.executable} -m pmadvise show --all {target.pid} 2>{errors} | head -n 1",
        shell=True,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    assert errors.read_bytes() == b""
