"""Execs into the same program at the same addresses: no address randomization."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import proc
from helpers.targets import PAGE, Target
from helpers.waiting import until, wait_for_state

from pmadvise import Process, Ranges

ADDR_NO_RANDOMIZE = 0x0040000
START_CODE, START_STACK = 23, 25
"""Indices of these fields in proc.stat()."""

SPAWNED = """
import os, signal, sys
if os.path.exists("/proc/self/fd/9"):
    signal.pause()
fifo = sys.argv[1]
actions = [(os.POSIX_SPAWN_OPEN, 9, fifo, os.O_RDONLY, 0)]
os.posix_spawn(sys.orig_argv[0], sys.orig_argv, os.environ, file_actions=actions)
signal.pause()
"""
SELF = """
import os, signal, sys
open(sys.argv[1]).read()
os.execv(sys.orig_argv[0], sys.orig_argv)
"""

pytestmark = pytest.mark.needs_root


def no_randomization() -> None:
    """Let the next program be laid out as ever. Wraps personality(2)."""
    ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def started(code: str, fifo: Path) -> subprocess.Popen[bytes]:
    """Run a program without randomization, in an environment that stays the same."""
    return subprocess.Popen(
        [sys.executable, "-ISc", code, str(fifo)],
        executable=sys.executable,
        env={"LC_ALL": "C.UTF-8"},  # else Python adds to its environment
        preexec_fn=no_randomization,  # noqa: PLW1509 - there are no other threads
    )


@pytest.fixture
def spawned(fifo: Path) -> Iterator[int]:
    """The child of a vfork(2), before it executes the program of its parent."""
    with started(SPAWNED, fifo) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        pid = int(until(children.read_text, "the child is there"))
        wait_for_state(pid, "S")
        yield pid
        os.kill(pid, signal.SIGKILL)
        parent.kill()


@pytest.fixture
def executing(fifo: Path) -> Iterator[int]:
    """A process that executes its own program whenever the FIFO is written to."""
    with started(SELF, fifo) as process:
        wait_for_state(process.pid, "S")
        yield process.pid
        process.kill()


def layout(pid: int) -> tuple[str, str]:
    """Return the addresses by which an exec is told mostly."""
    fields = proc.stat(pid)
    return fields[START_CODE], fields[START_STACK]


def let_exec(pid: int, fifo: Path) -> None:
    """Let a process exec, and return once its new program waits."""
    before = layout(pid)
    faults = int(proc.stat(pid)[7])
    os.close(os.open(fifo, os.O_WRONLY))
    until(lambda: int(proc.stat(pid)[7]) > faults + 100, "the new program runs")
    wait_for_state(pid, "S")
    assert layout(pid) == before, "the exec is not alike: the test proves nothing"


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_snapshot_of_a_vforked_child(spawned: int, fifo: Path) -> None:
    """The exec of a vforked child is noticed, though the old mm lives in its parent."""
    with Process(spawned) as process:
        space = process.maps()
        assert space.stale is False
        let_exec(spawned, fifo)
        assert (space.stale, space.changed()) == (True, space.select())


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_advice_to_a_vforked_child(spawned: int, fifo: Path) -> None:
    """Nothing is advised after it, even if no snapshot was ever made."""
    with Process(spawned) as process:
        let_exec(spawned, fifo)
        report = process.cold()
        assert (report.ended, report.calls, report.advised) == ("exec", 0, 0)


def test_maps_of_a_vforked_child(spawned: int, fifo: Path) -> None:
    """maps() finds the new address space, which is current from then on."""
    with Process(spawned) as process:
        process.maps()
        let_exec(spawned, fifo)
        space = process.maps()
        assert (space.stale, space.changed()) == (False, Ranges())


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_snapshot_of_a_program_that_executes_itself(executing: int, fifo: Path) -> None:
    """A snapshot of a program that executes itself is stale behind the exec."""
    with Process(executing) as process:
        space = process.maps()
        let_exec(executing, fifo)
        assert (space.stale, space.changed()) == (True, space.select())


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_advice_to_a_program_that_executes_itself(executing: int, fifo: Path) -> None:
    """While a snapshot is there, nothing is advised behind the exec."""
    with Process(executing) as process:
        space = process.maps()
        let_exec(executing, fifo)
        report = process.cold(space.select(path="[heap]"))
        assert (report.ended, report.calls, report.advised) == ("exec", 0, 0)


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_advice_without_a_snapshot(executing: int, fifo: Path) -> None:
    """A handle alone notices the exec too: it keeps maps open of such a program."""
    with Process(executing) as process:
        let_exec(executing, fifo)
        report = process.cold()
        assert (report.ended, report.calls, report.advised) == ("exec", 0, 0)


def test_a_handle_of_others_has_two_descriptors(target: Target) -> None:
    """Where addresses are random, a handle at rest has two descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    with Process(target.pid) as process:
        process.cold()
        assert len(os.listdir("/proc/self/fd")) - before == 2


EXEC_IN_A_THREAD = """
import os, sys, threading
code = "import time; time.sleep(99)"
run = lambda: os.execv(sys.executable, [sys.executable, "-ISc", code])
sys.stdin.readline()
threading.Thread(target=run).start()
threading.Event().wait()
"""


def first_end(process: Process) -> str:
    """Return how advising ends, "" while it is complete."""
    ended = process.cold([(0, PAGE)]).ended
    return "" if ended == "complete" else ended


@pytest.fixture
def threaded() -> Iterator[subprocess.Popen[bytes]]:
    """A process of which a thread that is not the leader execs, once it gets a line."""
    with subprocess.Popen(
        [sys.executable, "-ISc", EXEC_IN_A_THREAD], stdin=subprocess.PIPE
    ) as popen:
        wait_for_state(popen.pid, "S")
        yield popen
        popen.kill()


@pytest.mark.parametrize("_", range(20))
def test_exec_of_a_thread(threaded: subprocess.Popen[bytes], _: int) -> None:
    """The exec of a thread that is not the leader is an exec at every look, no exit."""
    with Process(threaded.pid) as process:
        space = process.maps()
        assert threaded.stdin is not None
        threaded.stdin.write(b"\n")
        threaded.stdin.flush()
        ended = until(functools.partial(first_end, process), "it execs")
        assert (ended, space.stale) == ("exec", True)
