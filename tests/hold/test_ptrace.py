"""Holding by ptrace(2)."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.children import in_child
from helpers.filters import refuse_syscall
from helpers.hold_programs import RAIN, TRACER, VFORK
from helpers.hold_targets import Cgroup, Running
from helpers.waiting import until

from pmadvise._native.ptrace import ptrace_seize
from pmadvise._native.task import Thread, ThreadArray, task_list
from pmadvise.hold import METHODS

_NR_PTRACE = {"x86_64": 101, "aarch64": 117, "riscv64": 117}.get(platform.machine(), 26)


@pytest.mark.needs_root
@pytest.mark.needs_cgroup1
@pytest.mark.parametrize("cgroup", [1], indirect=True)
def test_refuses_the_frozen_of_v1(target: Running, cgroup: Cgroup) -> None:
    """A process both stopped and frozen by v1 does not keep ptrace waiting."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    cgroup.add(target.pid)
    cgroup.freeze()
    with pytest.raises(PermissionError, match="frozen"):
        target.hold("ptrace", 600).__enter__()
    assert target.tracers() == {0}


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_stopped_and_frozen(target: Running, cgroup: Cgroup) -> None:
    """A process both stopped and frozen by v2 is held by ptrace, and left so."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    cgroup.add(target.pid)
    cgroup.freeze()
    with target.hold("ptrace"):
        assert target.states() == "ttt"
    until(lambda: target.states() == "TTT")
    until(cgroup.frozen)  # threads that a tracer lets go freeze anew


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
@pytest.mark.parametrize("which", ["leader", "last"])
def test_traced(
    target: Running, start: Callable[..., Running], method: str, which: str
) -> None:
    """A process traced in one thread: PermissionError, it runs on, none is seized."""
    tracer = start(TRACER, str(target.pid), which, wait="traced")
    with pytest.raises(PermissionError, match="traced already, by thread"):
        target.hold(method, 600).__enter__()
    target.goes_on()
    assert target.tracers() == {0, tracer.pid}


@pytest.fixture
def vfork_parent(start: Callable[..., Running], tmp_path: Path) -> Iterator[Running]:
    """A process that waits, in state D, for its vfork child to open a FIFO."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    running = start(VFORK, str(fifo))
    until(lambda: running.states() == "D", "it waits in vfork")
    yield running
    # If the child has gone, nobody reads.
    with contextlib.suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
def test_vfork_parent(vfork_parent: Running, tmp_path: Path, method: str) -> None:
    """A vfork parent can't be stopped: TimeoutError, and nothing is left behind."""
    with pytest.raises(TimeoutError, match="not stopped in time"):
        vfork_parent.hold(method, 0.1).__enter__()
    assert vfork_parent.tracers() == {0}
    (status,) = vfork_parent.threads().values()
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    assert not pending & 1 << signal.SIGSTOP - 1
    os.close(os.open(tmp_path / "fifo", os.O_WRONLY))
    assert vfork_parent.line() == "spawned"


def test_vfork_parent_stopped_late(vfork_parent: Running, tmp_path: Path) -> None:
    """After ptrace took too long, "auto" goes on to a method that has time enough."""
    held = vfork_parent.hold("auto", 4)

    def release() -> None:
        until(lambda: "freezer" in held.refused)
        os.close(os.open(tmp_path / "fifo", os.O_WRONLY))

    thread = threading.Thread(target=release)
    thread.start()
    with held:
        assert vfork_parent.is_held()
    thread.join()
    assert (held.method, held.broken) == ("sigstop", None)
    assert vfork_parent.line() == "spawned"


def test_joined_as_it_is_left(target: Running) -> None:
    """One thread's hold that ends as another's begins stops the target once more."""
    for _ in range(200):
        first, second = target.hold("ptrace", 20), target.hold("sigstop", 20)
        first.__enter__()
        thread = threading.Thread(target=first.__exit__, args=(None, None, None))
        thread.start()
        with second:
            assert target.is_held()
        thread.join()
        assert (first.broken, second.broken) == (None, None)


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_vfork_parent_frozen(vfork_parent: Running, cgroup: Cgroup) -> None:
    """A vfork parent can be frozen, its child being allowed company."""
    (children,) = Path(f"/proc/{vfork_parent.pid}/task").glob("*/children")
    for pid in (vfork_parent.pid, *map(int, children.read_text().split())):
        cgroup.add(pid)
    with pytest.raises(PermissionError, match="1 other process"):
        vfork_parent.hold("freezer").__enter__()
    with vfork_parent.hold("auto", 4.0, whole_cgroup=True) as held:
        until(cgroup.frozen)
    assert (held.method, held.broken) == ("freezer", None)
    assert list(held.refused) == ["ptrace"]
    until(lambda: not cgroup.frozen())


def test_rain_of_signals(start: Callable[..., Running]) -> None:
    """No real-time signal of the target is lost in 300 ptrace holds."""
    target = start(RAIN)
    sent = 0
    stop = threading.Event()

    def rain() -> None:
        nonlocal sent
        while not stop.is_set():
            with contextlib.suppress(BlockingIOError):  # its queue is full
                os.kill(target.pid, signal.SIGRTMIN)
                sent += 1
            stop.wait(0.0001)

    sender = threading.Thread(target=rain)
    sender.start()
    try:
        for _ in range(300):
            with target.hold("ptrace"):
                pass
    finally:
        stop.set()
        sender.join()
    # A standard signal is taken before a real-time one: so all of these first.
    until(
        lambda: all(
            set(s["SigPnd"] + s["ShdPnd"]) == {"0"} for s in target.threads().values()
        ),
        "every signal is taken",
    )
    os.kill(target.pid, signal.SIGTERM)
    assert target.line() == str(sent)


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
def test_signals_are_handed_back(target: Running, method: str) -> None:
    """A fatal signal sent while it is held ends it after the block, not before."""
    with target.hold(method):
        os.kill(target.pid, signal.SIGTERM)
        assert target.popen.poll() is None
    assert target.popen.wait(20) == -signal.SIGTERM


def test_wait_for_any_child(target: Running) -> None:
    """A waitpid(-1) elsewhere in the caller does not disturb a ptrace hold."""
    stop = threading.Event()

    def steal() -> None:
        while not stop.is_set():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG | os.WUNTRACED | 0x40000000)  # __WALL

    thief = threading.Thread(target=steal)
    thief.start()
    try:
        for _ in range(50):
            with target.hold("ptrace"):
                assert target.states() == "ttt"
    finally:
        stop.set()
        thief.join()
    target.goes_on()


def test_seize_of_a_strangers_thread(target: Running) -> None:
    """A thread ID that became another process's is never interrupted."""
    array = task_list(target.identity.proc)
    assert isinstance(array, ThreadArray)
    with_proc_of_caller = os.open("/proc/self", os.O_DIRECTORY)

    def seize() -> None:
        ptrace_seize(with_proc_of_caller, array)

    thread = threading.Thread(target=seize)
    thread.start()
    thread.join()
    os.close(with_proc_of_caller)
    assert [listed.seized for listed in array.threads()] == [-errno.EXDEV] * 3
    until(lambda: target.tracers() == {0})
    target.goes_on()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EACCES])
def test_filter(target: Running, number: int) -> None:
    """A filter that refuses ptrace: PermissionError at once, with the remedy."""

    def filtered() -> None:
        refuse_syscall(_NR_PTRACE, number)
        target.hold("ptrace", 600).__enter__()

    outcome = in_child(filtered)
    assert outcome.error == "PermissionError"
    assert "a seccomp filter refuses ptrace" in outcome.text
    assert "SystemCallFilter=ptrace" in outcome.text


def test_filter_and_auto(target: Running) -> None:
    """With a filter that refuses ptrace, "auto" goes on to the next method."""

    def filtered() -> tuple[str, bool]:
        refuse_syscall(_NR_PTRACE, errno.EPERM)
        with target.hold("auto", 600) as held:
            return held.method, "seccomp" in held.refused["ptrace"]

    outcome = in_child(filtered)
    assert (outcome.text, outcome.value) == ("", ("sigstop", True))


def test_tracer_of_the_caller(start: Callable[..., Running]) -> None:
    """The tracer of the caller is not held: it could not let the caller go."""
    tracer = start(TRACER, str(os.getpid()), "leader", wait="traced")
    for method in (*METHODS, "auto"):
        with pytest.raises(PermissionError, match="traces the caller"):
            tracer.hold(method).__enter__()
    assert tracer.states() == "S"


def test_tracer_of_one_thread_of_the_caller(start: Callable[..., Running]) -> None:
    """The tracer of any thread of the caller is not held."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        tracer = start(TRACER, str(os.getpid()), "last", wait="traced")
        with pytest.raises(PermissionError, match="traces the caller"):
            tracer.hold().__enter__()
        tracer.popen.kill()
        tracer.popen.wait()
    finally:
        stop.set()
        thread.join()


def test_tracer_that_comes_while_it_is_stopped(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that begins to trace the caller while it is being stopped is let go."""
    target = start()
    (tid, *_) = target.threads()
    looks = iter(([], [Thread(1, "S", tid, 0)]))
    name = "pmadvise.hold.target._threads_of_caller"
    monkeypatch.setattr(name, lambda: next(looks))
    with pytest.raises(PermissionError, match="traces the caller"):
        target.hold("ptrace").__enter__()
    assert next(looks, None) is None
    target.goes_on()
