"""Every system call that the package makes, refused in every way."""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import pickle
import platform
import signal
import time
from collections.abc import Iterator

import pytest
from helpers.children import die_silently
from helpers.hold_targets import check_nothing_left, hold_census
from helpers.public_calls import CALLS, outcome_of
from helpers.stress_rounds import Stress, in_freezer
from helpers.stress_targets import CALM, StressTarget
from helpers.syscall_faults import KILL, break_syscall, syscalls_of

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_compiler]

FAULTS = (errno.EPERM, errno.ENOSYS, errno.EACCES, errno.ENOMEM, KILL)
NR_EXIT, NR_WAIT4, NR_MMAP, NR_GETTID = (
    (60, 61, 9, 186) if platform.machine() == "x86_64" else (93, 260, 222, 178)
)
SHORT = 14
"""System calls that the short run breaks, others for each seed."""
KINDS = (OSError, RuntimeError, MemoryError)


@pytest.fixture
def target() -> Iterator[StressTarget]:
    """A target that moves, in a cgroup of its own."""
    one = StressTarget(CALM, 1)
    with in_freezer(one, "syscalls"):
        yield one


def all_calls(pid: int) -> dict[str, object]:
    """Make every public call; return their outcomes."""
    return {name: outcome_of(lambda: call(pid)) for name, call in CALLS.items()}  # noqa: B023


def left_behind(before: frozenset[str], number: int) -> list[str]:
    """Return what goes on to be there though it was not before."""
    end = time.monotonic() + 2
    while left := hold_census() - before:
        if time.monotonic() > end:
            break
        time.sleep(0.01)
    # What the broken call itself is needed for.
    unavoidable = {NR_EXIT: "thread", NR_WAIT4: "child"}.get(number, "no such thing")
    return sorted(one for one in left if not one.startswith(unavoidable))


def broken(pid: int, number: int, fault: int, writer: int) -> None:
    """Make every public call in this child while a system call fails."""
    wrong = []
    before = hold_census()
    try:
        break_syscall(number, fault)
        for name, outcome in all_calls(pid).items():
            if isinstance(outcome, str) and "rror" in outcome:
                wrong.append(f"{name}: {outcome}")
        if left := left_behind(before, number):
            wrong.append(f"left: {left}")
    except KINDS:
        pass  # of the census, or of installing the filter
    os.write(writer, pickle.dumps(wrong))


def outcome_in_child(pid: int, number: int, fault: int) -> tuple[list[str], int]:
    """Return what was wrong with a fault, and how the child ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            die_silently()
            broken(pid, number, fault, writer)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        octets = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (pickle.loads(octets) if octets else []), status


def ordinary() -> None:
    """Do what any program of Python does: threads, children, files, memory, signals."""
    for _ in range(20):
        lock = _thread.allocate_lock()
        lock.acquire()
        with contextlib.suppress(*KINDS):
            _thread.start_new_thread(lock.release, ())
            lock.acquire(timeout=0.05)
        with contextlib.suppress(*KINDS), open("/proc/self/stat", "rb") as file:
            file.read()
        with contextlib.suppress(*KINDS):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        with contextlib.suppress(*KINDS):
            time.sleep(0.0001)
        bytes(1 << 20)
        with contextlib.suppress(*KINDS):
            child = os.posix_spawn("/bin/true", ["true"], {})
            os.waitpid(child, 0)


def end_without_pmadvise(number: int, fault: int) -> int:
    """Return how a child ends that does what is ordinary while a system call fails."""
    child = os.fork()
    if child == 0:
        try:
            die_silently()
            with contextlib.suppress(*KINDS):
                break_syscall(number, fault)
                ordinary()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_right(status: int, number: int, fault: int) -> bool:
    """Return whether a child may end so: by itself, or as Python does by itself too."""
    if fault == KILL:
        return status in (0, -signal.SIGSYS)
    return status == 0 or status == end_without_pmadvise(number, fault)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(
            NR_MMAP,
            id="mmap: threads start, and end before they begin",
            marks=pytest.mark.slow,
        ),
        pytest.param(NR_GETTID, id="gettid: Python takes -1 for an ID"),
        pytest.param(NR_WAIT4, id="wait4: the freezer's watchdog can't be reaped"),
    ],
)
def test_a_system_call(target: StressTarget, number: int) -> None:
    """Those that came to light by chance are broken in each run."""
    before = hold_census()
    assert outcome_in_child(target.pid, number, errno.ENOMEM) == ([], 0)
    target.goes_on()
    check_nothing_left(before)


def test_system_calls(stress: Stress, target: StressTarget) -> None:
    """Each system call, refused or deadly: an error or the result; targets run on."""
    all_calls(target.pid)  # loads what is loaded at first use
    numbers = sorted(syscalls_of(lambda: all_calls(target.pid)))
    assert len(numbers) > 20
    rng = stress.rng("system calls")
    wrong: dict[tuple[int, int], tuple[list[str], int]] = {}
    before = hold_census()
    if not stress.seconds:
        numbers = rng.sample(numbers, SHORT)
    for number in numbers:
        for fault in rng.sample(FAULTS, 2 if stress.seconds else 1):
            found, status = outcome_in_child(target.pid, number, fault)
            stress.count("faults_system_calls")
            if found or not is_right(status, number, fault):
                wrong[number, fault] = found, status
            target.goes_on()
            assert target.wrong == 0
            check_nothing_left(before)
    stress.count("system_calls_broken", len(numbers))
    assert wrong == {}
