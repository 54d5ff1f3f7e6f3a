"""Holding by the freezer of a cgroup."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from helpers.children import in_child
from helpers.hold_programs import CALLER
from helpers.hold_targets import Cgroup, Running, cgroup_of
from helpers.targets import MIB, Target
from helpers.waiting import until

from pmadvise import Process
from pmadvise.hold.freezer import FrozenCgroup

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2]
each_version = pytest.mark.parametrize(
    "cgroup", [2, pytest.param(1, marks=pytest.mark.needs_cgroup1)], indirect=True
)


@each_version
def test_each_version(
    target: Running, cgroup: Cgroup, witness: Callable[[], None]
) -> None:
    """The freezers of cgroup v2 and of v1 hold, and restore what was."""
    cgroup.add(target.pid)
    with target.hold("freezer") as held:
        until(cgroup.frozen)
        before = target.steps()
        witness()
        assert target.steps() == before
    assert held.broken is None
    target.goes_on()


@pytest.mark.parametrize(
    ("cgroup", "method", "by"),
    [
        (2, "ptrace", "ptrace"),
        (2, "auto", "ptrace"),
        (2, "freezer", "freezer"),
        pytest.param(1, "freezer", "freezer", marks=pytest.mark.needs_cgroup1),
    ],
    indirect=["cgroup"],
)
def test_frozen_stays_frozen(
    start: Callable[..., Running], cgroup: Cgroup, method: str, by: str
) -> None:
    """A cgroup frozen before is frozen after the hold, and after the caller's end."""
    target = start()
    cgroup.add(target.pid)
    cgroup.freeze()
    before = target.steps()
    with target.hold(method) as held:
        assert held.method == by
    until(cgroup.frozen)
    caller = start(CALLER, str(target.pid), method, "wait", wait="held")
    caller.popen.kill()
    caller.popen.wait()
    until(cgroup.frozen)
    assert target.steps() == before
    cgroup.thaw()
    target.goes_on()


@each_version
def test_sigstop_refuses_the_frozen(target: Running, cgroup: Cgroup) -> None:
    """A frozen process takes no SIGSTOP: PermissionError at once, none is left."""
    cgroup.add(target.pid)
    cgroup.freeze()
    with pytest.raises(PermissionError, match="frozen"):
        target.hold("sigstop", 600).__enter__()
    cgroup.thaw()
    target.goes_on()


def test_move_is_reported(target: Running, cgroup: Cgroup) -> None:
    """A move to another cgroup ends a freezer hold, and `broken` has it."""
    cgroup.add(target.pid)
    with target.hold("freezer") as held:
        assert target.is_held()
        (cgroup.path.parent / "cgroup.procs").write_text(str(target.pid))
        target.goes_on()
    assert held.broken == "it was moved to another cgroup"


@each_version
def test_thaw_is_reported(target: Running, cgroup: Cgroup) -> None:
    """A thaw from elsewhere ends a freezer hold, and `broken` has it."""
    cgroup.add(target.pid)
    with target.hold("freezer") as held:
        assert cgroup.frozen()
        cgroup.thaw()
        target.goes_on()
    assert held.broken == "the cgroup was thawed from elsewhere"


@each_version
@pytest.mark.parametrize("frozen_before", [False, True])
def test_thaw_before_the_hold(
    target: Running,
    cgroup: Cgroup,
    monkeypatch: pytest.MonkeyPatch,
    frozen_before: bool,
) -> None:
    """What a killed caller's watchdog thaws while it freezes is frozen once more."""
    cgroup.add(target.pid)
    if frozen_before:
        cgroup.freeze()
        until(cgroup.frozen)
    thaws, is_frozen = [cgroup.thaw], FrozenCgroup._is_frozen

    def thawed_once(frozen: FrozenCgroup) -> bool:
        if thaws:
            thaws.pop()()
        return is_frozen(frozen)

    monkeypatch.setattr(FrozenCgroup, "_is_frozen", thawed_once)
    with target.hold("freezer", 10) as held:
        assert cgroup.frozen()
    assert (thaws, held.broken) == ([], None)
    target.goes_on()


def test_company(target: Running, start: Callable[..., Running]) -> None:
    """Other processes, even below it, keep a cgroup from being frozen, unless asked."""
    other = start()
    with cgroup_of(2) as cgroup:
        below = cgroup.child()
        try:
            cgroup.add(target.pid)
            below.add(other.pid)
            with pytest.raises(PermissionError, match="1 other process"):
                target.hold("freezer").__enter__()
            target.goes_on()
            with target.hold("freezer", whole_cgroup=True):
                until(below.frozen)
            other.goes_on()
        finally:
            below.close()


@pytest.mark.parametrize("whole_cgroup", [False, True])
def test_callers_own_cgroup(
    start: Callable[..., Running], cgroup: Cgroup, whole_cgroup: bool
) -> None:
    """The caller's own cgroup is never frozen."""
    target = start()
    cgroup.add(target.pid)

    def neighbour() -> None:
        cgroup.add(os.getpid())
        target.hold("freezer", whole_cgroup=whole_cgroup).__enter__()

    outcome = in_child(neighbour)
    assert outcome.error == "PermissionError"
    assert "the caller itself" in outcome.text
    target.goes_on()


def test_two_targets_in_a_cgroup(start: Callable[..., Running], cgroup: Cgroup) -> None:
    """Holds of two processes in one cgroup join: the last one thaws it."""
    left, right = start(), start()
    for running in (left, right):
        cgroup.add(running.pid)
    first = left.hold("freezer", whole_cgroup=True)
    first.__enter__()
    with right.hold("freezer", whole_cgroup=True):
        first.__exit__(None, None, None)
        assert cgroup.frozen()
    left.goes_on()
    right.goes_on()


def test_odd_names(start: Callable[..., Running], cgroup: Cgroup) -> None:
    """A cgroup whose name has control characters is found all the same."""
    target = start()
    below = cgroup.like(cgroup.path / "a\rb\x0b c\x85\u2028d")
    try:
        below.add(target.pid)
        with target.hold("freezer") as held:
            assert below.frozen()
        assert held.broken is None
        target.goes_on()
    finally:
        below.close()


def test_dying(cgroup: Cgroup) -> None:
    """A process that was killed and is still giving back its memory has ended."""
    target = Target()
    cgroup.add(target.pid)
    with Process(target.pid) as process:
        # Takes a while to give back, and a thread that is not the leader does so.
        target.run("[thread() for _ in range(8)]")
        target.run(f"fill_small_pages(map({512 * MIB}), {512 * MIB})")
        os.kill(target.pid, signal.SIGKILL)
        until(lambda: not (cgroup.path / "cgroup.procs").read_text())
        with pytest.raises(ProcessLookupError, match="has ended"):
            process.hold("freezer").__enter__()
    target.close()
