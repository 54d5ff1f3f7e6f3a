"""A caller that is killed, forks, closes its descriptors or lacks rights."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from helpers.children import in_child, value_of_child
from helpers.hold_programs import CALLER, DAEMON
from helpers.hold_targets import Running, every_method, hold_entries
from helpers.privileges import become_nobody, become_nobody_with
from helpers.waiting import until

_CAP_KILL = 5


@pytest.mark.parametrize("then", ["wait", "fork"])
@every_method
def test_caller_killed(
    target: Running, start: Callable[..., Running], method: str, then: str
) -> None:
    """Every thread goes on when the caller is killed, even while its child lives."""
    caller = start(
        CALLER, str(target.pid), method, then, wait="held", start_new_session=True
    )
    try:
        assert target.is_held()
        os.kill(caller.pid, signal.SIGKILL)
        target.goes_on()
        assert target.tracers() == {0}
    finally:
        os.killpg(caller.pid, signal.SIGKILL)


@pytest.mark.parametrize("signal_number", [1, 2, 9, 15])
@every_method
def test_caller_group_killed(
    target: Running, start: Callable[..., Running], method: str, signal_number: int
) -> None:
    """A signal to the caller's whole process group loses no target."""
    caller = start(
        CALLER, str(target.pid), method, "wait", wait="held", start_new_session=True
    )
    assert target.is_held()
    os.killpg(caller.pid, signal_number)
    target.goes_on()


def hold_for_ever(target: Running, method: str, ready: int, *, stay: bool) -> None:
    """Hold again and again in this child, or stay in a hold, until it is killed.

    Writes "r" to `ready` when it begins, or the exception that ends it.
    """
    try:
        with target.hold(method, 20):
            pass  # loads what is loaded at first use
        os.write(ready, b"r")
        while True:
            with target.hold(method, 20):
                if stay:
                    signal.pause()
    except BaseException as error:
        os.write(ready, repr(error).encode())
    finally:
        os._exit(1)


@pytest.mark.slow
@every_method
def test_random_kills(target: Running, method: str) -> None:
    """A caller killed at any instant, in a hold 10 of 60 times, loses no target."""
    for n in range(60):
        stay = n % 6 == 0
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            hold_for_ever(target, method, writer, stay=stay)
        os.close(writer)
        assert os.read(reader, 1000) == b"r"
        if stay:
            until(target.is_held, "it is held")
        else:
            time.sleep(random.uniform(0, 0.01))  # the instant, not a synchronisation
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        target.goes_on()
        os.close(reader)


@every_method
def test_forked_child_leaves_the_block(
    target: Running, witness: Callable[[], None], method: str
) -> None:
    """A forked child that runs to the end of the block does not let the target go."""
    with target.hold(method) as held:
        pid = os.fork()
        if pid == 0:
            held.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(pid, 0)
        before = target.steps()
        witness()
        assert target.steps() == before
    assert held.broken is None
    target.goes_on()


@every_method
def test_forked_child_has_no_holds(target: Running, method: str) -> None:
    """A forked child forgets its parent's holds and frozen cgroups."""
    with target.hold(method):
        assert len(hold_entries()) == (2 if method == "freezer" else 1)
        assert value_of_child(hold_entries) == []
    assert hold_entries() == []


def test_forked_child_may_hold(target: Running) -> None:
    """A forked child has holds of its own, whatever its parent holds."""
    with target.hold("sigstop"):
        pid = os.fork()
        if pid == 0:
            with target.hold("ptrace") as held:
                os._exit(0 if held.method == "ptrace" and target.is_held() else 1)
        assert os.waitpid(pid, 0)[1] == 0
        until(target.is_held)
    target.goes_on()


@every_method
def test_caller_closed_its_descriptors(
    target: Running, start: Callable[..., Running], method: str
) -> None:
    """Leaving closes no descriptor that became another's; broken has if it ran."""
    caller = start(DAEMON, str(target.pid), method, wait="")
    assert (caller.line() == "None") == (method in ("ptrace", "auto"))
    assert caller.popen.wait(20) == 0
    target.goes_on()


@every_method
def test_stopped_stays_stopped(target: Running, method: str) -> None:
    """A process that was stopped before is stopped afterwards."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    before = target.steps()
    with target.hold(method):
        assert target.is_held()
    assert target.states() == "TTT"
    assert target.steps() == before
    os.kill(target.pid, signal.SIGCONT)
    target.goes_on()


@every_method
def test_stopped_stays_stopped_when_caller_is_killed(
    target: Running, start: Callable[..., Running], method: str
) -> None:
    """A process that was stopped before is so after the caller was killed, too."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    before = target.steps()
    caller = start(CALLER, str(target.pid), method, "wait", wait="held")
    caller.popen.kill()
    caller.popen.wait()
    until(lambda: target.states() == "TTT")
    assert target.steps() == before


@pytest.mark.parametrize("first", ["ptrace", "sigstop"])
@pytest.mark.parametrize("when", ["before", "within"])
def test_one_method_after_another(target: Running, first: str, when: str) -> None:
    """A process stopped by an administrator stays so through holds in a row."""
    for _ in range(50):
        if when == "before":
            os.kill(target.pid, signal.SIGSTOP)
            until(lambda: target.states() == "TTT")
        with target.hold(first):
            if when == "within" and first == "ptrace":
                os.kill(target.pid, signal.SIGSTOP)
        if when == "within" and first == "sigstop":
            os.kill(target.pid, signal.SIGSTOP)
            until(lambda: target.states() == "TTT")
        with target.hold("sigstop"):
            pass
        assert target.states() == "TTT"
        os.kill(target.pid, signal.SIGCONT)
        target.moves_on()


@pytest.mark.needs_root
def test_without_the_right(target: Running) -> None:
    """A stranger gets PermissionError from each method, with the reasons."""

    def stranger() -> None:
        become_nobody()
        target.hold().__enter__()

    outcome = in_child(stranger)
    assert outcome.error == "PermissionError"
    for text in ("ptrace: ", "freezer: ", "sigstop: ", "CAP_SYS_PTRACE"):
        assert text in outcome.text
    target.goes_on()


@pytest.mark.needs_root
def test_sigstop_with_cap_kill_alone(target: Running) -> None:
    """With CAP_KILL alone the kernel could not let the target go: it is refused."""

    def killer() -> None:
        become_nobody_with(_CAP_KILL)
        os.kill(target.pid, 0)
        target.hold("sigstop").__enter__()

    outcome = in_child(killer)
    assert (outcome.error, "could not let it go" in outcome.text) == (
        "PermissionError",
        True,
    )
    assert "CAP_KILL is no help" in outcome.text
    assert "T" not in target.states()


@every_method
def test_continued_while_held(target: Running, method: str) -> None:
    """A process that was stopped, and continued while it is held, runs afterwards."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    with target.hold(method):
        os.kill(target.pid, signal.SIGCONT)
    target.goes_on()
