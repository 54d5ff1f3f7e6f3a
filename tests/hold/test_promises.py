"""What every method promises: a held process does not run, and then it does."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from helpers.hold_programs import PARENT
from helpers.hold_targets import Running, every_method, hold_census
from helpers.waiting import until

from pmadvise import Process
from pmadvise._handle.identity import Identity
from pmadvise.hold import METHODS, hold


@every_method
def test_held(target: Running, witness: Callable[[], None], method: str) -> None:
    """No thread of a held process makes a step."""
    with target.hold(method) as held:
        before = target.steps()
        witness()
        assert target.steps() == before
    assert (held.method, held.broken) == (
        "ptrace" if method == "auto" else method,
        None,
    )


@every_method
def test_goes_on(target: Running, method: str) -> None:
    """Every thread, stopped in the block, goes on when it ends."""
    with target.hold(method):
        assert target.is_held()
    target.goes_on()


@every_method
def test_goes_on_after_an_exception(target: Running, method: str) -> None:
    """Every thread goes on when the block raises, and the exception is its own."""

    def fail(error: Exception) -> None:
        with target.hold(method):
            assert target.is_held()
            raise error

    ours = KeyError("ours")
    with pytest.raises(KeyError) as caught:
        fail(ours)
    assert caught.value is ours
    target.goes_on()


@every_method
def test_runs_when_the_block_is_left(target: Running, method: str) -> None:
    """The process is let go when the block ends, and not some time later."""
    for _ in range(20):
        with target.hold(method):
            assert target.is_held()
        assert not target.is_held()


@every_method
def test_dropped(target: Running, method: str) -> None:
    """A Hold that nobody leaves lets go when it is dropped."""
    held = target.hold(method)
    held.__enter__()
    assert target.is_held()
    del held
    target.goes_on()


@every_method
def test_left_by_hand(target: Running, method: str) -> None:
    """A Hold that is entered by hand may be left by hand, twice too."""
    held = target.hold(method)
    held.__enter__()
    assert target.is_held()
    held.__exit__(None, None, None)
    held.__exit__(None, None, None)
    assert not target.is_held()
    target.goes_on()


@every_method
def test_looked_at(target: Running, method: str) -> None:
    """Looking __exit__ up within the block ends nothing."""
    with target.hold(method) as held:
        assert callable(held.__exit__)
        assert target.is_held()
    target.goes_on()


@pytest.mark.slow
@every_method
def test_thousand_holds(target: Running, method: str) -> None:
    """A thousand holds in a row leak no descriptor, process, thread or cgroup."""
    before = hold_census()
    for _ in range(1000):
        with target.hold(method, 10) as held:
            pass
        assert held.broken is None
    assert hold_census() <= before
    if method == "freezer":  # the target's cgroup is the test's own
        assert not any(path.is_dir() for path in target.cgroup().iterdir())
    target.goes_on()


@every_method
def test_own_child_dies_while_held(target: Running, method: str) -> None:
    """The caller's own child, killed while held, has its status within the block."""
    with target.hold(method) as held:
        os.kill(target.pid, signal.SIGKILL)
        assert target.popen.wait(20) == -signal.SIGKILL
    assert held.broken is None


@every_method
def test_parent_learns_of_death(
    start: Callable[..., Running], method: str, request: pytest.FixtureRequest
) -> None:
    """The parent of a process killed while held has its status within the block."""
    parent = start(PARENT, wait="")
    pid = int(parent.line())
    if method == "freezer":
        request.getfixturevalue("cgroup").add(pid)
    with Process(pid) as process, process.hold(method):
        os.kill(pid, signal.SIGKILL)
        assert parent.line() == "-9"


@every_method
def test_ended(target: Running, method: str) -> None:
    """A process that has ended, reaped or not: ProcessLookupError that names it."""
    target.popen.kill()
    os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError, match=f"process {target.pid} "):
        target.hold(method).__enter__()
    target.popen.wait()
    with pytest.raises(ProcessLookupError, match=f"process {target.pid}:? "):
        target.hold(method).__enter__()


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_self(method: str) -> None:
    """The caller can't hold itself."""
    with (
        Process(os.getpid()) as process,
        pytest.raises(PermissionError, match="itself"),
    ):
        process.hold(method).__enter__()


@every_method
def test_closed_in_the_block(target: Running, method: str) -> None:
    """A hold keeps what it needs when its Process is closed in the block."""
    with Process(target.pid) as process:
        held = process.hold(method)
        with held:
            process.close()
            assert target.is_held()
        assert held.broken is None
    target.goes_on()


def test_closed_before_the_block(target: Running) -> None:
    """A Process that was closed before the block: ValueError says so."""
    with Process(target.pid) as process:
        held = process.hold()
    with pytest.raises(ValueError, match=f"pid {target.pid} is closed"):
        held.__enter__()
    target.goes_on()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("gdb",), ValueError),
        ((None,), TypeError),
        ((b"ptrace",), TypeError),
        (("auto", -1), ValueError),
        (("auto", -(10**400)), ValueError),
        (("auto", float("nan")), ValueError),
        (("auto", "1"), TypeError),
        (("auto", None), TypeError),
        (("auto", 1, "yes"), TypeError),
    ],
)
def test_arguments(
    target: Running, arguments: tuple[object, ...], error: type[Exception]
) -> None:
    """Wrong arguments are refused at the call, before any block."""
    with pytest.raises(error):
        hold(target.identity, *arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [math.inf, 10**400, 1e300, 2**64, 2**31])
@every_method
def test_endless(target: Running, method: str, timeout: float) -> None:
    """A timeout may be as long as anybody likes."""
    with target.hold(method, timeout):
        assert target.is_held()
    target.goes_on()


def test_once(target: Running) -> None:
    """A Hold can be entered once."""
    held = target.hold("ptrace")
    with held:
        pass
    with pytest.raises(RuntimeError, match="once"):
        held.__enter__()


def test_import_is_light() -> None:
    """Importing pmadvise does not load what holds."""
    code = "import sys, pmadvise; sys.exit('pmadvise.hold' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_runs_at_import() -> None:
    """Importing what holds registers nothing with os.fork()."""
    code = (
        "import os, sys, threading, queue, random, dataclasses, tempfile; calls = []\n"
        "os.register_at_fork = lambda **hooks: calls.append(hooks)\n"
        "import pmadvise.hold; sys.exit(len(calls))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hold_of_an_identity(start: Callable[..., Running]) -> None:
    """hold() is lent an Identity, which stays its owner's."""
    target = start()
    identity = Identity.open(target.pid)
    with hold(identity):
        assert target.is_held()
    assert not identity.has_ended()
    identity.close()
    until(lambda: not target.is_held())
