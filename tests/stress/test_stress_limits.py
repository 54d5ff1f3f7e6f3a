"""Every public call without descriptors, and with each allocation failing in turn."""

from __future__ import annotations

import functools
import gc
import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator

import pytest
from helpers.children import die_silently, value_of_child
from helpers.hold_targets import check_nothing_left, hold_census
from helpers.public_calls import CALLS, outcome_of
from helpers.stress_rounds import Stress, in_freezer
from helpers.stress_targets import REST, StressTarget

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_compiler]
each_call = pytest.mark.parametrize("name", CALLS)

ENOUGH = 48
"""Descriptors with which every call works."""
ALLOCATIONS = 1200


@pytest.fixture(scope="module")
def target() -> Iterator[StressTarget]:
    """A target in a cgroup of its own."""
    one = StressTarget(REST, 4)
    with in_freezer(one, "limits"):
        yield one
        assert one.verify()


def fill_descriptors() -> int:
    """Take every number up to the highest in use; return how many there are."""
    null = os.open("/dev/null", os.O_RDONLY)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while os.dup(null) < highest:
        pass
    return max(map(int, os.listdir("/proc/self/fd"))) + 1


def without_descriptors(call: Callable[[], object], free: Iterable[int]) -> list[str]:
    """Make a call with so many free descriptors, for each; return what was wrong."""
    expected = call()
    gc.freeze()  # so that collecting looks at what the call made alone
    used = fill_descriptors()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before, wrong, outcome = hold_census(), [], None
    for n in free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + n, hard))
        outcome = outcome_of(call)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if outcome != expected and not isinstance(outcome, (OSError, RuntimeError)):
            wrong.append(f"{n} free: {outcome!r}")
        outcome = None if outcome != expected else outcome
        gc.collect()
        check_nothing_left(before)
    if outcome != expected:
        wrong.append(f"{outcome!r} with enough of them, instead of {expected!r}")
    return wrong


@each_call
def test_descriptors(stress: Stress, target: StressTarget, name: str) -> None:
    """With however few free descriptors: the right result or OSError, and no leak."""
    free = [*range(16 if stress.seconds else 8), ENOUGH]
    assert (
        value_of_child(
            lambda: without_descriptors(lambda: CALLS[name](target.pid), free)
        )
        == []
    )
    stress.count("faults_descriptors", len(free))


def without_memory(
    call: Callable[[], object], numbers: Iterable[int], done: Callable[[int], object]
) -> list[str]:
    """Make a call with the n-th allocation failing; return what was wrong."""
    testcapi = importlib.import_module("_testcapi")
    expected = call()
    gc.freeze()
    before, wrong = hold_census(), []
    set_nomemory, remove_hooks = testcapi.set_nomemory, testcapi.remove_mem_hooks
    for n in numbers:
        done(n)
        try:
            set_nomemory(n, n + 1)
            outcome = call()
        except BaseException as error:
            remove_hooks()
            outcome = error.with_traceback(None)
        remove_hooks()
        # SystemError: some functions of CPython fail without an exception then.
        kinds = MemoryError, OSError, RuntimeError, SystemError
        if outcome != expected and not isinstance(outcome, kinds):
            wrong.append(f"allocation {n}: {outcome!r}")
        del outcome
        gc.collect()
        check_nothing_left(before)
    return wrong


def note(fd: int, n: int) -> None:
    """Write down which allocation is the next."""
    os.write(fd, f"{n}\n".encode())


def in_children(
    call: Callable[[], object], numbers: list[int]
) -> tuple[list[str], list[int]]:
    """Run without_memory() in as many children as it takes.

    Returns:
        What was wrong, and the allocations of which Python itself did not survive the
        failure (3.12.1 and others crash in some places).
    """
    crashed: list[int] = []
    while True:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                die_silently()
                # pytest's would keep the frames of each, and what these refer to.
                sys.unraisablehook = lambda _: None
                wrong = without_memory(call, numbers, functools.partial(note, writer))
                os.write(writer, f"wrong {wrong}\n".encode())
            except BaseException as error:
                os.write(writer, f"wrong {error!r}\n".encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            lines = pipe.read().split("\n")[:-1]
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            return [] if lines[-1] == "wrong []" else [lines[-1]], crashed
        if status not in (-signal.SIGSEGV, -signal.SIGABRT):
            return [f"the child ended by {status}: {lines[-1:]}"], crashed
        last = int(lines[-1])
        crashed.append(last)
        numbers = numbers[numbers.index(last) + 1 :]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@each_call
def test_allocations(stress: Stress, target: StressTarget, name: str) -> None:
    """Whichever allocation fails: the right result or an error, and nothing left."""
    pytest.importorskip("_testcapi", reason="installed: this Python has no _testcapi")
    step = 37 if stress.seconds else 131
    numbers = list(range(stress.rng(name).randrange(step), ALLOCATIONS, step))
    wrong, crashed = in_children(lambda: CALLS[name](target.pid), numbers)
    stress.count("faults_allocations", len(numbers))
    stress.count("crashes_of_python_without_memory", len(crashed))
    assert wrong == []
    assert len(crashed) < len(numbers) / 4
