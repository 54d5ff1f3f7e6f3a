"""Holds without memory, without threads, without descriptors, without /proc."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pkgutil
import signal
from collections.abc import Callable, Iterator

import pytest
from helpers.children import die_silently, in_child, value_of_child
from helpers.descriptors import only_descriptors
from helpers.hold_targets import (
    Running,
    check_nothing_left,
    every_method,
    hold_census,
)
from helpers.namespaces import unmount_proc

from pmadvise.hold import handle, shared
from pmadvise.hold.methods import MethodChoice
from pmadvise.hold.target import HeldProcess

testcapi = pytest.importorskip(
    "_testcapi", reason="installed: this Python has no _testcapi to fail allocations"
)


@contextlib.contextmanager
def memory_restored() -> Iterator[None]:
    """Let allocations succeed again, and let their failures pass."""
    try:
        with contextlib.suppress(MemoryError, OSError):
            yield
    finally:
        testcapi.remove_mem_hooks()


def leave_without_memory(target: Running, method: str, failures: int) -> None:
    """Leave a hold while allocations of this process fail, and check what is left."""
    before = hold_census()
    set_nomemory = testcapi.set_nomemory
    with memory_restored(), target.hold(method, 20):
        assert target.is_held()
        set_nomemory(0, failures)
    target.goes_on()
    check_nothing_left(before)


@pytest.mark.parametrize("failures", [1, 2, 3, 5, 8, 13, 50, 200, 100_000])
@every_method
def test_leaving_without_memory(target: Running, method: str, failures: int) -> None:
    """A block that is left while allocations fail lets go, however many fail."""
    # in a child: the other thread of a worker of pytest-xdist does not bear it
    value_of_child(lambda: leave_without_memory(target, method, failures))
    target.check_free(method)


@pytest.mark.slow
@every_method
def test_single_failures(target: Running, method: str) -> None:
    """Any single allocation of a hold may fail: the target runs, the next one holds."""
    done = 0  # in children, as CPython itself may crash (3.12.1: bytes and tuples)
    for n in range(0, 300, 3):
        pid = os.fork()
        if pid == 0:
            die_silently()
            before = hold_census()
            with memory_restored():
                testcapi.set_nomemory(n, n + 1)
                with target.hold(method, 0.5):
                    pass
            os._exit(0 if is_as_before(target, method, before) else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGSEGV, -signal.SIGABRT), f"allocation {n}"
        done += status == 0
        target.moves_on()
    assert done > 50
    target.check_free(method)


def is_as_before(target: Running, method: str, before: frozenset[str]) -> bool:
    """Return whether nothing is left of a hold, and the next one holds."""
    target.moves_on()
    check_nothing_left(before)
    with target.hold(method, 20):
        return target.is_held()


class Failing:
    """A function that raises MemoryError the first few times."""

    def __init__(self, function: Callable[..., object], times: int) -> None:
        self.function = function
        self.left = times

    @property
    def method(self) -> Callable[..., object]:
        """It as a plain function, which may stand in a class."""

        def call(*args: object, **kwargs: object) -> object:
            if self.left:
                self.left -= 1
                raise MemoryError
            return self.function(*args, **kwargs)

        return call


RELEASES = [
    pytest.param("ptrace", "pmadvise.hold.ptrace.ptrace_detach"),
    pytest.param("sigstop", "pmadvise.hold.sigstop.fcntl.fcntl"),
    pytest.param(
        "freezer",
        "pmadvise.hold.freezer.FrozenCgroup.release",
        marks=(pytest.mark.needs_root, pytest.mark.needs_cgroup2),
    ),
]


@pytest.mark.parametrize("times", [1, 2, 5, 20])
@pytest.mark.parametrize(("method", "name"), RELEASES)
def test_release_fails(
    target: Running, monkeypatch: pytest.MonkeyPatch, method: str, name: str, times: int
) -> None:
    """Whatever letting go needs may fail for a while: it is done nevertheless."""
    before = hold_census()
    with target.hold(method, 20):
        assert target.is_held()
        failing = Failing(pkgutil.resolve_name(name), times)
        monkeypatch.setattr(name, failing.method)
    target.goes_on()
    assert failing.left == 0
    check_nothing_left(before)
    target.check_free(method)


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("name", ["close", "close_pidfd"])
@every_method
def test_entering_fails_at_the_end(
    target: Running,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    name: str,
    times: int,
) -> None:
    """What fails once the target is stopped loses neither it nor a descriptor."""
    before = hold_census()
    close = getattr(HeldProcess, name)
    monkeypatch.setattr(HeldProcess, name, Failing(close, times).method)
    with contextlib.suppress(OSError, MemoryError), target.hold(method, 20):
        pass
    monkeypatch.undo()
    target.goes_on()
    check_nothing_left(before)
    target.check_free(method)


@pytest.mark.parametrize("times", [1, 2, 5, 20])
@pytest.mark.parametrize("name", ["_remove_leavers", "_confirm_leavers", "_release"])
@every_method
def test_thread_fails(
    target: Running,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    name: str,
    times: int,
) -> None:
    """Whatever the hold's thread does may fail for a while."""
    before = hold_census()
    with target.hold(method, 20):
        assert target.is_held()
        failing = Failing(getattr(shared.SharedStop, name), times)
        monkeypatch.setattr(shared.SharedStop, name, failing.method)
    target.goes_on()
    check_nothing_left(before)
    target.check_free(method)


@every_method
def test_leave_fails(
    target: Running, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Leaving may fail as a whole, for ever: the target is let go nevertheless."""
    with contextlib.suppress(MemoryError), target.hold(method, 20):
        assert target.is_held()
        monkeypatch.setattr(handle, "leave", Failing(handle.leave, 1 << 30).method)
    target.goes_on()
    monkeypatch.undo()
    target.check_free(method)


@every_method
def test_no_thread(
    target: Running, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Where no thread can be started there is no hold, and nothing is left of it."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    before = hold_census()
    monkeypatch.setattr(shared.thread, "start_new_thread", refuse)
    with pytest.raises(OSError, match="can't start new thread") as caught:
        target.hold(method).__enter__()
    assert caught.value.errno == errno.EAGAIN
    check_nothing_left(before)
    monkeypatch.undo()
    target.check_free(method)


@every_method
def test_no_descriptors(target: Running, method: str) -> None:
    """Without free descriptors: OSError, or a hold, and nothing is left of it."""
    before = hold_census()
    for free in range(12):
        held = False
        with (
            only_descriptors(free),
            contextlib.suppress(OSError),
            target.hold(method, 0.5),
        ):
            held = True
        target.goes_on()
        check_nothing_left(before)
    assert held
    target.check_free(method)


@every_method
def test_half_opened(
    target: Running, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A hold that fails between any two of its descriptors leaves none open."""
    before = hold_census()
    name = "pmadvise.hold.fds._file_of"
    file_of = pkgutil.resolve_name(name)
    for n in range(10):
        calls = itertools.count()

        def fail(
            fd: int, n: int = n, calls: Iterator[int] = calls
        ) -> tuple[int, int] | None:
            if next(calls) == n:
                raise OSError(errno.ENOMEM, "no memory left")
            file: tuple[int, int] | None = file_of(fd)
            return file

        monkeypatch.setattr(name, fail)
        with contextlib.suppress(OSError), target.hold(method, 20):
            assert target.is_held()
        monkeypatch.undo()
        target.goes_on()
        check_nothing_left(before)


@pytest.mark.needs_root
@pytest.mark.needs_mounts
def test_without_proc(target: Running) -> None:
    """Without /proc the error has that reason."""

    def hold() -> None:
        unmount_proc()
        target.hold().__enter__()

    outcome = in_child(hold)
    assert outcome.error == "PermissionError"
    assert "/proc is not mounted" in outcome.text


def test_bug_in_a_method(target: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody expected is raised where the block would begin."""
    before = hold_census()
    failing = Failing(MethodChoice.make_stop, 1)
    monkeypatch.setattr(MethodChoice, "make_stop", failing.method)
    with pytest.raises(MemoryError):
        target.hold().__enter__()
    check_nothing_left(before)
