"""docs/examples/park: what stands still, is in swap, and comes back without a fault."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import park
import pytest
import standstill
from helpers.command import IMPORT_PATH
from helpers.hold_targets import cgroup_of
from helpers.parking import (
    PROGRAM,
    SIZE,
    VERSIONS,
    Place,
    lines,
    run,
    state,
    targets,
)
from helpers.privileges import CAP_SYS_NICE, CAP_SYS_PTRACE, never_gain
from helpers.targets import MIB, PAGE
from helpers.waiting import DEADLINE, until, wait_for_state

from pmadvise import CgroupMemory, Reclaimed

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_swap]

STOPS_IN_THE_MIDDLE = f"""
import sys, time
sys.path.insert(0, {str(PROGRAM.parent)!r})
import park
def advise_each(*_, **__):
    print("in the middle", flush=True)
    time.sleep(300)
park.advise_each = advise_each
sys.exit(park.main())
"""


@pytest.fixture(params=["tree", *VERSIONS])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A target in a cgroup of either version, or by itself."""
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(targets())
        version = request.param
        cgroup = None if version == "tree" else stack.enter_context(cgroup_of(version))
        yield Place(target, cgroup)
        if cgroup is not None:
            cgroup.thaw()  # so that a target of v1 can be killed


def test_there_and_back(place: Place) -> None:
    """Parked is still and in swap; unparked runs, and has hardly a fault to take."""
    printed = lines("park", *place.arguments)
    assert printed[-1] == f"parked: {place.target.pid}"
    assert place.is_still()
    assert place.target.status("VmSwap") > SIZE * 0.9
    printed = lines("unpark", *place.arguments)
    assert printed[-1] == "runs"
    assert not place.is_still()
    assert place.target.status("VmSwap") < SIZE * 0.1
    major, minor = place.faults()
    assert (major, minor < SIZE // PAGE // 20) == (0, True)
    assert place.target.intact(place.area, SIZE)


def test_twice(place: Place) -> None:
    """What is parked can be parked, and what runs can be unparked."""
    assert lines("unpark", *place.arguments) == ["it runs already"]
    lines("park", *place.arguments)
    assert lines("park", *place.arguments)[0] == "it stands still already"
    assert place.is_still()
    lines("unpark", *place.arguments)
    assert lines("unpark", *place.arguments) == ["it runs already"]
    assert not place.is_still()


def test_read_back_alone(place: Place) -> None:
    """With --no-thaw it stands still: an engine that froze it wants to thaw it."""
    lines("park", *place.arguments)
    printed = lines("unpark", "--no-thaw", *place.arguments)
    assert printed[-1].startswith("stands still")
    assert place.is_still()
    assert place.target.status("VmSwap") < SIZE * 0.1
    assert lines("unpark", *place.arguments)[-1] == "runs"
    assert place.faults()[0] == 0


@pytest.mark.needs_cgroup1
@pytest.mark.needs_cgroup2
def test_frozen_in_the_other_version() -> None:
    """Where both are mounted, as podman pause may freeze in v1 what v2 has too."""
    with targets() as target, cgroup_of(1) as one, cgroup_of(2) as two:
        assert one.path.name == two.path.name
        place = Place(target, two)
        one.add(target.pid)
        one.freeze()
        name = f"/{two.path.name}"
        assert lines("park", "--cgroup", name)[-1] == f"parked: {target.pid}"
        assert (one.frozen(), two.frozen()) == (True, False)
        assert target.status("VmSwap") > SIZE * 0.9
        lines("unpark", "--cgroup", name)
        assert not one.frozen()
        assert place.faults()[0] == 0


@pytest.mark.parametrize("action", ["park", "unpark"])
def test_no_name(action: str) -> None:
    """An empty path, as of a unit that does not run, is no cgroup and no tree."""
    done = run(action, "--cgroup", "")
    assert (done.returncode, done.stdout) == (1, "")
    assert "root" in done.stderr or "no such cgroup" in done.stderr


def test_no_right_to_page_out(place: Place) -> None:
    """What is not parked runs on, and the reason is told with the remedy."""
    without = functools.partial(never_gain, CAP_SYS_NICE)
    done = run("park", *place.arguments, preexec_fn=without)
    assert (done.returncode, done.stdout) == (1, "")
    assert "CAP_SYS_NICE" in done.stderr
    assert not place.is_still()
    assert place.target.intact(place.area, SIZE)


def test_no_right_to_read_back(place: Place) -> None:
    """It runs all the same, and takes its faults."""
    lines("park", *place.arguments)
    without = functools.partial(never_gain, CAP_SYS_NICE)
    printed = lines("unpark", *place.arguments, preexec_fn=without)
    assert (printed[0].startswith("not all: "), printed[-1]) == (True, "runs")
    assert not place.is_still()
    assert place.target.intact(place.area, SIZE)


def test_no_right_to_map(place: Place) -> None:
    """Without ptrace attach access it is read ahead, or not even that, and runs."""
    lines("park", *place.arguments)
    without = functools.partial(never_gain, CAP_SYS_PTRACE)
    printed = lines("unpark", *place.arguments, preexec_fn=without)
    assert printed[-1] == "runs"
    assert "not " in printed[0]
    assert not place.is_still()


@contextlib.contextmanager
def in_the_middle(action: str, place: Place) -> Iterator[subprocess.Popen[str]]:
    """Run park.py until all stands still, and the first advice is to be given."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPS_IN_THE_MIDDLE, action, *place.arguments],
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            assert "in the middle\n" in iter(running.stdout.readline, "")
            assert place.is_still()
            yield running
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("action", ["park", "unpark"])
def test_killed_in_the_middle(
    place: Place, action: str, number: signal.Signals
) -> None:
    """What stands still runs on once park.py is no more."""
    if action == "unpark":
        lines("park", *place.arguments)
    with in_the_middle(action, place) as running:
        running.send_signal(number)
        running.wait(DEADLINE)
        until(lambda: not place.is_still(), "it runs")
    assert place.target.intact(place.area, SIZE)


@pytest.mark.parametrize("action", ["park", "unpark"])
def test_interrupted_in_the_middle(place: Place, action: str) -> None:
    """By Ctrl-C, what stands still runs on before park.py has ended."""
    if action == "unpark":
        lines("park", *place.arguments)
    with in_the_middle(action, place) as running:
        running.send_signal(signal.SIGINT)
        assert running.wait(DEADLINE) == 130
        until(lambda: not place.is_still(), "it runs")
        assert running.stderr is not None
        assert "interrupted" in running.stderr.read()


def test_what_was_still_before(place: Place) -> None:
    """A failure leaves it as it was: somebody else has frozen or stopped it."""
    if place.cgroup is not None:
        place.cgroup.freeze()
    else:
        os.kill(place.target.pid, signal.SIGSTOP)
        wait_for_state(place.target.pid, "T")
    with in_the_middle("park", place) as running:
        running.send_signal(signal.SIGINT)
        assert running.wait(DEADLINE) == 130
    assert place.is_still()


def test_descendants() -> None:
    """All of a tree stand still and run again, and one that was stopped before."""
    with targets() as target:
        children = [target.run("fork()") for _ in range(3)]
        os.kill(children[0], signal.SIGSTOP)
        wait_for_state(children[0], "T")
        arguments = ["--tree", str(target.pid)]
        without = functools.partial(never_gain, CAP_SYS_NICE)
        assert run("park", *arguments, preexec_fn=without).returncode == 1
        pids = (*children, target.pid)
        until(lambda: "T" not in map(state, pids[1:]), "those run that did")
        assert state(children[0]) == "T"
        lines("park", *arguments)
        assert [*map(state, pids)] == ["T"] * 4
        lines("unpark", *arguments)
        until(lambda: "T" not in map(state, pids), "all run")
        for pid in children:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("version", VERSIONS)
def test_its_own_cgroup(version: int) -> None:
    """It does not freeze itself, nor the root, nor what is no cgroup."""
    with cgroup_of(version) as cgroup:
        join = functools.partial((cgroup.path / "cgroup.procs").write_text, "0")
        for path, why in (
            (cgroup.path, "this program itself"),
            (cgroup.path.parent, "the root"),
            (cgroup.path / "nowhere", "no such cgroup"),
        ):
            done = run("park", "--cgroup", str(path), preexec_fn=join)
            assert (done.returncode, why in done.stderr) == (1, True)
        assert not cgroup.frozen()
        done = run("park", "--cgroup", str(cgroup.path))
        assert (done.returncode, "no process" in done.stderr) == (1, True)
        cgroup.freeze()
        assert lines("unpark", "--cgroup", str(cgroup.path))[-1] == "runs"
        until(lambda: not cgroup.frozen(), "it is thawed, though nobody is in it")
    assert "this program itself" in run("park", "--tree", str(os.getpid())).stderr


@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("error", [None, PermissionError(13, "no"), OSError(5, "no")])
def test_by_reclaim(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError | None,
) -> None:
    """Where memory.reclaim may be written, it is asked for all that the cgroup has."""
    memory = CgroupMemory(SIZE, SIZE, 0, 0, 0)
    asked: list[tuple[Path, int, int]] = []

    def reclaim(cgroup: Path, size: int, swap_floor: int = 0, **_: Any) -> Reclaimed:
        asked.append((cgroup, size, swap_floor))
        if error and size:
            raise error
        return Reclaimed(size, size, "short", 1, 0.1, memory, memory)

    monkeypatch.setattr(standstill, "reclaim", reclaim)
    with targets() as target, cgroup_of(2) as cgroup:
        place = Place(target, cgroup)
        parked = standstill.Cgroup(str(cgroup.path))
        park.park(parked, MIB, float("inf"))
        assert place.is_still()
        assert asked == [(cgroup.path, 0, 0), (cgroup.path, SIZE, MIB)]
        freed = float(capsys.readouterr().out.split("freed ")[1].split()[0])
        n_ways = 1 if error else 2  # PAGEOUT takes what is left, here all once more
        assert n_ways * 30 < freed < n_ways * 36
        park.unpark(parked, float("inf"))
        until(lambda: not place.is_still(), "it runs")


def test_limits(place: Place) -> None:
    """The floor of swap and the time bound the work, not whether it stands still."""
    printed = lines("park", *place.arguments, "--swap-floor=900G")
    assert "not all: the floor of swap is reached" in printed
    assert place.target.status("VmSwap") < SIZE
    assert place.is_still()
