"""Races, and whose work it is: the patch's questions and answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import proc
from helpers.cgroups import cpuset_mount, frozen, new_cgroup
from helpers.targets import PAGE, Target, send_signal
from helpers.waiting import wait_for_state

from pmadvise import Advice, Process, process_madvise, process_madvise_range

N_PAGES = 64
SIZE = N_PAGES * PAGE
CPUS = sorted(os.sched_getaffinity(0))
TRACER = """
import sys
from pmadvise import Process
with Process(int(sys.argv[1])) as process, process.hold("ptrace"):
    print("traced", flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.needs_root


class Advised:
    """A target with memory that was just referenced."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.address = target.filled(SIZE)

    def cold(self) -> int:
        """Advise the memory once."""
        return process_madvise_range(self.target.pidfd, self.address, SIZE, Advice.COLD)

    def becomes_cold(self) -> None:
        """See that the advice has its effect."""
        before = self.target.smaps(self.address, "Referenced")
        assert before >= SIZE
        assert self.cold() == SIZE
        assert self.target.smaps(self.address, "Referenced") <= before - SIZE // 2


@pytest.fixture
def advised(target: Target) -> Advised:
    return Advised(target)


@pytest.fixture
def stopped(advised: Advised) -> Iterator[Advised]:
    """The same, stopped by SIGSTOP."""
    send_signal(advised.target.pidfd, signal.SIGSTOP)
    wait_for_state(advised.target.pid, "T")
    yield advised
    send_signal(advised.target.pidfd, signal.SIGCONT)


@pytest.fixture
def on_another_cpu() -> Iterator[None]:
    """Run the test on the last CPU."""
    os.sched_setaffinity(0, {CPUS[-1]})
    yield
    os.sched_setaffinity(0, CPUS)


def test_running(advised: Advised) -> None:
    """A running target is advised as it is at that instant."""
    # Q.2: "process_madvise operates on the target process's address space as it exists
    # at the instant that process_madvise is called".
    advised.becomes_cold()
    assert advised.target.intact(advised.address, SIZE)


def test_stopped(stopped: Advised) -> None:
    """A stopped target is advised."""
    # Q.2: "the calling process can suspend the target process with [...] SIGSTOP".
    stopped.becomes_cold()
    assert proc.stat(stopped.target.pid)[0] == "T"


@pytest.mark.needs_cgroup2
def test_frozen(advised: Advised) -> None:
    """A frozen target is advised."""
    # Q.2 "[...] or the freezer cgroup", Q.3 "or even freezed state so they can't act by
    # themselves".
    with frozen(advised.target.pid):
        advised.becomes_cold()


def test_traced(advised: Advised) -> None:
    """A target that another process traces is advised, where ptrace is refused."""
    # Q.3: ptrace "doesn't work if the target process are ptraced (e.g., strace,
    # debugger, minidump) because a process can have at most one ptracer".
    pid = advised.target.pid
    with subprocess.Popen(
        [sys.executable, "-c", TRACER, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "traced\n"
        with (
            Process(pid) as process,
            pytest.raises(PermissionError, match="traced already"),
            process.hold("ptrace"),
        ):
            pass
        advised.becomes_cold()
        assert proc.stat(pid)[0] == "t"
        tracer.communicate()


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_hold_closes_the_race(target: Target, process: Process, method: str) -> None:
    """While a target is held, every VMA of a snapshot is there when it is advised."""
    # Q.2: "It's the responsibility of the process calling process_madvise to close this
    # race condition [...] suspend the target process".
    target.run(f"forever(lambda: unmap(filled({SIZE}), {SIZE}))")
    for _ in range(30):
        with process.hold(method) as held:
            maps = Path(f"/proc/{target.pid}/maps").read_bytes()
            ranges = process.maps().select(anonymous=True, private=True, writable=True)
            assert process_madvise(target.pidfd, ranges, Advice.COLD) == ranges.total
            assert Path(f"/proc/{target.pid}/maps").read_bytes() == maps
        assert held.broken is None
        target.run("None")


def test_charged_to_the_caller(stopped: Advised) -> None:
    """The CPU time of the target does not move, the caller's does."""
    # Q.3: "we want to act the hint in caller's context, not the callee's".
    before, own = proc.cpu_seconds(stopped.target.pid), time.thread_time_ns()
    stopped.cold()
    assert proc.cpu_seconds(stopped.target.pid) == before
    assert time.thread_time_ns() > own


@pytest.mark.needs_cpus(2)
@pytest.mark.usefixtures("on_another_cpu")
def test_affinity_of_the_caller(advised: Advised) -> None:
    """The work runs on a CPU that the caller may use and the target may not."""
    # Q.3: "the callee is usually limited in cpuset".
    os.sched_setaffinity(advised.target.pid, {CPUS[0]})
    advised.becomes_cold()
    assert int(proc.stat(os.getpid())[proc.LAST_CPU]) == CPUS[-1]


@pytest.mark.needs_cpus(2)
@pytest.mark.usefixtures("on_another_cpu")
def test_cpuset_of_the_caller(advised: Advised) -> None:
    """The caller's cpuset counts, and not the target's."""
    # Q.3: "the callee is usually limited in cpuset/cgroups".
    mount = cpuset_mount()
    if mount is None:
        pytest.skip("kernel: it has no cpuset controller, of cgroup v1 or v2")
    settings = {"cpuset__cpus": str(CPUS[0])}
    if (mount / "cpuset.mems").exists():
        settings["cpuset__mems"] = (mount / "cpuset.mems").read_text()
    with new_cgroup(mount, advised.target.pid, **settings):
        assert os.sched_getaffinity(advised.target.pid) == {CPUS[0]}
        advised.becomes_cold()
        assert os.sched_getaffinity(0) == {CPUS[-1]}
