"""`pmadvise show --ages`: how much memory was not touched for how long."""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers.command import run, terminal
from helpers.targets import MIB, Target

from pmadvise import Process, support
from pmadvise.command import ages

SIZE = 16 * MIB
WATCH = ("--ages", "--watch", "50ms")

pytestmark = pytest.mark.needs_root


@pytest.mark.slow
def test_ages(target: Target) -> None:
    """The ages are 0, 1, 2, 5 and 10 s; what is touched has none, and sums are true."""
    hot, _cold = target.filled(SIZE), target.filled(SIZE)
    target.run(f"forever(lambda: (touch({hot}, [5]), time.sleep(0.001)))")
    done = run("show", target.pid, "--ages", "--json")
    [found] = done.objects
    assert (done.status, done.err) == (0, "")
    assert list(found)[-4:] == ["ages", "unknown", "source", "grain"]
    seconds = [pair["seconds"] for pair in found["ages"]]
    for age, least in zip(seconds, (0, 1, 2, 5, 10), strict=True):
        assert age >= least
    sizes = [pair["bytes"] for pair in found["ages"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= SIZE
    assert sizes[0] - sizes[1] >= SIZE


def rows_of(text: str) -> list[Any]:
    """Return the age, the size and the share of each row."""
    return re.findall(r"^(\S+) +([0-9.]+[BKMG]) +([0-9]+%)", text, re.MULTILINE)


@pytest.mark.parametrize("columns", [20, 40, 80, 100])
def test_interrupt(target: Target, columns: int) -> None:
    """Ctrl-C shows what there is, with status 130; at every width."""
    target.filled(SIZE)
    variables = {"NO_COLOR": "1"}
    with terminal(
        "show", target.pid, "--ages", size=(60, columns), variables=variables
    ) as running:
        running.read_until(lambda output: b"watching" in output)
        running.interrupt()
        assert running.finish() == 130
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", running.output.decode())
    rows = rows_of(text.replace("\r", ""))
    assert (rows[0][0], rows[-1][0]) == ("0s", "unknown")
    assert sum(int(row[2][:-1]) for row in (rows[0], rows[-1])) in (99, 100, 101)
    finest = next(name for name, answer in support().idle.items() if answer)
    assert f"by {finest}" in " ".join(text.split())


def test_watch(target: Target) -> None:
    """With --watch it is drawn at once, and again and again with longer ages."""
    target.filled(SIZE)
    with terminal("show", target.pid, *WATCH, size=(60, 80)) as running:
        running.read_until(lambda output: re.search(rb"\n1(\.\d)?s ", output))
        running.interrupt()
        assert running.finish() == 130
    assert re.search(rb"\x1b\[[0-9]*A", running.output)  # cursor up
    assert b"Traceback" not in running.output


def test_an_exec(target: Target) -> None:
    """One that executes another program is watched anew: it is not as old as that."""
    with terminal("show", target.pid, *WATCH, size=(60, 80)) as running:
        running.read_until(lambda output: re.search(rb"\n1(\.\d)?s ", output))
        target.exec_again()
        seen = len(running.output)
        running.read_until(
            lambda output: re.search(rb"\n0s [^\n]*\n+unknown ", plain(output[seen:]))
        )
        running.interrupt()
        assert running.finish() == 130


def plain(output: bytes) -> bytes:
    """Return the text of what a terminal was sent."""
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\r", b"", output)


def test_somebody_else_tracks_it(target: Target) -> None:
    """A target that another tracker has is shown without ages: a line, status 1."""
    with Process(target.pid) as process, process.track("mappings"):
        done = run("show", target.pid, "--ages", "--json")
    [found] = done.objects
    assert (done.status, len(done.errors)) == (1, 1)
    assert "another Tracker" in done.err
    assert found["mappings"] is not None
    assert [found[key] for key in ("ages", "unknown", "source", "grain")] == [None] * 4


def test_of_many_ages_few_are_shown() -> None:
    """Of a long list the rows are those of round ages, and the oldest."""
    pairs = [(2.0 * look, 1000 - look) for look in range(1000)]
    shown = [age for age, _ in ages.rows(pairs)]
    assert shown[:6] == [0, 2, 6, 10, 20, 30]
    assert (shown[-1], len(shown) <= 14) == (1998, True)
