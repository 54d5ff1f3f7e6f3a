"""Many targets, and those of a group, which come and go; rights that are refused."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
from helpers.children import value_of_child
from helpers.command import ending_before_its_turn, run, run_here, run_with_descriptors
from helpers.privileges import become_nobody
from helpers.targets import MIB, Target

from pmadvise.command import targets
from pmadvise.command.targets import TargetProcess, Targets

pytestmark = pytest.mark.needs_root
N_TARGETS = 300
FEW = 64
"""File descriptors."""


@pytest.fixture
def crowd(target: Target) -> Iterator[list[int]]:
    """A target and its children, more than there are descriptors."""
    children = [target.run("fork()") for _ in range(N_TARGETS)]
    yield [target.pid, *children]
    for pid in children:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("by_tree", [True, False])
def test_more_targets_than_descriptors(crowd: list[int], by_tree: bool) -> None:
    """Each target is advised, however many there are."""
    names = ["--tree", crowd[0]] if by_tree else crowd
    done = run_with_descriptors(FEW, "cold", "--json", *names)
    assert (done.status, done.err) == (0, "")
    found = done.objects
    assert [row["pid"] for row in found] == crowd
    assert [row for row in found if not row["advised"]] == []


@pytest.mark.parametrize(("by_tree", "status"), [(True, 0), (False, 1)])
def test_one_that_ends_meanwhile(
    monkeypatch: pytest.MonkeyPatch, target: Target, by_tree: bool, status: int
) -> None:
    """A member of a group that ends before its turn is no failure; a PID is one."""
    child = target.run("fork()")
    ending_before_its_turn(monkeypatch, child)
    who = ("--tree", target.pid) if by_tree else (target.pid, child)
    ended, out, err = run_here("cold", "--json", *who)
    last = json.loads(out.split("\n")[-2])
    assert (ended, err.count("\n")) == (status, status)
    assert (last["pid"], last["error"] is None) == (child, by_tree)
    assert last["ended"] == ("exited" if by_tree else None)


def test_no_later_process(target: Target) -> None:
    """A process that has got the ID meanwhile is not opened."""
    [entry] = Targets([target.pid], (), ())
    assert entry.status is not None
    entry.status = replace(entry.status, started=entry.status.started - 1)
    with pytest.raises(ProcessLookupError, match="has exited"):
        entry.open()


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--anon",)], ids=" ".join)
def test_refused(target: Target, options: tuple[str, ...]) -> None:
    """For want of a right: `ended` is "refused", the words too, and no empty table."""
    arguments = ("cold", target.pid, *options)

    def as_nobody() -> list[tuple[int, str, str]]:
        become_nobody()
        return [run_here(*arguments, "--json"), run_here(*arguments)]

    # loads all modules, which nobody may not be able to read
    assert run_here(*arguments)[0] == 0
    as_json, as_text = value_of_child(as_nobody)
    found = json.loads(as_json[1])
    assert (as_json[0], found["ended"], found["calls"]) == (1, "refused", 0)
    assert found["error"]["errno"] in (errno.EPERM, errno.EACCES)
    assert (as_text[0], as_text[2].count("\n")) == (1, 1)
    assert "refused" in as_text[1]
    assert "interrupted" not in as_text[1]
    assert "asked" not in as_text[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cold", "--path", "/nope*"), "no mapping matches --path '/nope*'"),
        (("cold", "--min-size", "1T"), "no mapping matches --min-size 1099511627776"),
        (("cold", "--anon", "--path", "/*"), "no mapping matches --anon --path '/*'"),
        (("cold",), "are cold now: they stay in memory until it is short"),
        (("cold", "--hold", "auto"), "held meanwhile by ptrace"),
        (("cold", "--hold", "sigstop"), "held meanwhile by sigstop"),
    ],
    ids=repr,
)
def test_what_came_of_it(
    target: Target, arguments: tuple[str, ...], words: str
) -> None:
    """Each command ends with its effect, in words."""
    target.filled(MIB)
    done = run(*arguments, target.pid)
    assert (done.status, done.err) == (0, "")
    assert words in " ".join(done.out.split())


@pytest.mark.parametrize("timeout", [None, "0.2s", "3s"])
def test_a_hold_has_the_time_that_is_given(
    monkeypatch: pytest.MonkeyPatch, target: Target, timeout: str | None
) -> None:
    """--timeout is for the hold too: it has what is left of it, else a second."""
    given: list[float] = []
    real = TargetProcess.hold

    def hold(process: TargetProcess, method: str, seconds: float) -> object:
        given.append(seconds)
        return real(process, method, seconds)

    monkeypatch.setattr(targets.TargetProcess, "hold", hold)
    options = [] if timeout is None else ["--timeout", timeout]
    run_here("cold", target.pid, "--hold", "ptrace", *options)
    [seconds] = given
    limit = 1.0 if timeout is None else float(timeout.removesuffix("s"))
    assert limit / 2 < seconds <= limit
