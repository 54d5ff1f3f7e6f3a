"""What the patch's questions and answers say of races, and of whose work it is."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.hold_targets import Cgroup, Running, cgroup_of, mount_of, until

from pmadvise import PAGE_SIZE, Advice, process_madvise, process_madvise_range

PAGES = 64
MEMORY = f"""
import ctypes, mmap, sys, time
counters = memoryview(mmap.mmap(int(sys.argv[1]), 32)).cast("Q")
memory = mmap.mmap(-1, {PAGES} * {PAGE_SIZE}, flags=mmap.MAP_PRIVATE)
memory[:] = b"pmadvise" * (len(memory) // 8)
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
while True:
    counters[0] += 1
    time.sleep(0.0002)
"""
CHURN = f"""
import mmap, sys
counters = memoryview(mmap.mmap(int(sys.argv[1]), 32)).cast("Q")
print("ready", flush=True)
while True:
    memory = mmap.mmap(-1, {PAGES} * {PAGE_SIZE}, flags=mmap.MAP_PRIVATE)
    memory[:] = bytes(len(memory))
    memory.close()
    counters[0] += 1
"""
TRACER = """
import os, sys, time
from pmadvise.hold import hold
from pmadvise import pidfd_open
pid = int(sys.argv[2])
with hold(pidfd_open(pid), os.open(f"/proc/{pid}", os.O_DIRECTORY), "ptrace"):
    print("traced", flush=True)
    sys.stdin.read()
"""


class Advised:
    """A process with memory that was just referenced."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.address = int(running.line())

    def referenced(self) -> int:
        """Return the bytes referenced in its memory, by smaps."""
        text = Path(f"/proc/{self.running.pid}/smaps").read_text()
        for vma in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE):
            if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", vma):
                start, end = (int(part, 16) for part in found.groups())
                if start <= self.address < end:
                    field = re.search(r"^Referenced: +(\d+) kB", vma, re.MULTILINE)
                    assert field
                    return int(field[1]) * 1024
        raise AssertionError("its memory is not mapped")

    def cold(self) -> int:
        return process_madvise_range(
            self.running.pidfd, self.address, PAGES * PAGE_SIZE, Advice.COLD
        )


@pytest.fixture
def advised() -> Iterator[Advised]:
    running = Running(MEMORY, wait="")
    try:
        yield Advised(running)
    finally:
        running.close()


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    with cgroup_of(2) as found:
        yield found


def cpu_ticks(pid: int) -> int:
    """Return utime + stime of a process, of all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def cpu_nanoseconds(pid: int) -> int:
    """Return the time that the only thread of a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def becomes_cold(advised: Advised) -> None:
    before = advised.referenced()
    assert before >= PAGES * PAGE_SIZE
    assert advised.cold() == PAGES * PAGE_SIZE
    assert advised.referenced() <= before - PAGES * PAGE_SIZE // 2


def test_running(advised: Advised) -> None:
    """Q.2: "process_madvise operates on the target process's address space as it
    exists at the instant that process_madvise is called", of a running target."""
    becomes_cold(advised)
    advised.running.moves_on()


def test_stopped(advised: Advised) -> None:
    """Q.2: "the calling process can suspend the target process with [...] SIGSTOP"."""
    os.kill(advised.running.pid, signal.SIGSTOP)
    until(lambda: advised.running.states() == "T")
    becomes_cold(advised)
    assert advised.running.states() == "T"


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_frozen(advised: Advised, cgroup: Cgroup) -> None:
    """Q.2 "[...] or the freezer cgroup", Q.3 "or even freezed state so they can't act
    by themselves"."""
    cgroup.add(advised.running.pid)
    cgroup.freeze()
    becomes_cold(advised)
    assert cgroup.frozen()


def test_traced(advised: Advised) -> None:
    """Q.3: ptrace "doesn't work if the target process are ptraced (e.g., strace,
    debugger, minidump) because a process can have at most one ptracer"; this does."""
    tracer = Running(TRACER, str(advised.running.pid), wait="traced")
    try:
        with pytest.raises(PermissionError, match="traced already"):
            advised.running.hold("ptrace").__enter__()
        becomes_cold(advised)
        assert advised.running.states() == "t"
    finally:
        tracer.close()


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_hold_closes_the_race(method: str) -> None:
    """Q.2: "It's the responsibility of the process calling process_madvise to close
    this race condition [...] suspend the target process": then every VMA of a
    snapshot is still there when it is advised."""
    running = Running(CHURN)
    try:
        for _ in range(30):
            with running.hold(method) as held:
                snapshot = Path(f"/proc/{running.pid}/maps").read_text()
                ranges = [
                    (int(start, 16), int(end, 16) - int(start, 16))
                    for start, end in re.findall(
                        r"^(\w+)-(\w+) rw.p 00000000 00:00 0 +$",
                        snapshot,
                        flags=re.MULTILINE,
                    )
                ]
                advised = process_madvise(running.pidfd, ranges, Advice.COLD)
                assert advised == sum(length for _, length in ranges) > 0
                assert Path(f"/proc/{running.pid}/maps").read_text() == snapshot
            assert held.broken is None
            running.moves_on()
    finally:
        running.close()


def test_charged_to_the_caller(advised: Advised) -> None:
    """Q.3: "we want to act the hint in caller's context, not the callee's": the CPU
    time of the target does not move, the caller's does."""
    with advised.running.hold("sigstop"):
        before = cpu_nanoseconds(advised.running.pid), cpu_ticks(advised.running.pid)
        own = cpu_nanoseconds(os.getpid())
        for _ in range(1000):
            advised.cold()
        after = cpu_nanoseconds(advised.running.pid), cpu_ticks(advised.running.pid)
        assert cpu_nanoseconds(os.getpid()) > own
    assert after == before


CPUS = sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(len(CPUS) < 2, reason="it takes two CPUs to tell them apart")
def test_affinity_of_the_caller(advised: Advised) -> None:
    """Q.3: "the callee is usually limited in cpuset": the work runs where the caller
    may, on a CPU that the target may not use."""
    os.sched_setaffinity(advised.running.pid, {CPUS[0]})
    os.sched_setaffinity(0, {CPUS[1]})
    try:
        becomes_cold(advised)
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        assert int(fields[36]) == CPUS[1]
    finally:
        os.sched_setaffinity(0, CPUS)


def cpuset_mount() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup" and "cpuset" in options.split(","):
            return Path(left.split()[4])
    mount = mount_of(2)
    if mount and "cpuset" in (mount / "cgroup.controllers").read_text().split():
        return mount
    return None


@pytest.mark.needs_root
@pytest.mark.skipif(len(CPUS) < 2, reason="it takes two CPUs to tell them apart")
def test_cpuset_of_the_caller(advised: Advised) -> None:
    """Q.3: "the callee is usually limited in cpuset/cgroups": the caller's cpuset
    counts, and not the target's."""
    mount = cpuset_mount()
    if mount is None:
        pytest.skip("there is no cpuset controller, of cgroup v1 or v2")
    if (mount / "cgroup.subtree_control").exists():
        (mount / "cgroup.subtree_control").write_text("+cpuset")
    folder = mount / f"pmadvise-test-{os.getpid()}"
    folder.mkdir()
    try:
        mems = (mount / "cpuset.mems").exists() and (mount / "cpuset.mems").read_text()
        if mems:
            (folder / "cpuset.mems").write_text(mems)
        (folder / "cpuset.cpus").write_text(str(CPUS[0]))
        (folder / "cgroup.procs").write_text(str(advised.running.pid))
        assert os.sched_getaffinity(advised.running.pid) == {CPUS[0]}
        os.sched_setaffinity(0, {CPUS[1]})
        becomes_cold(advised)
        assert os.sched_getaffinity(0) == {CPUS[1]}
    finally:
        os.sched_setaffinity(0, CPUS)
        advised.running.popen.kill()
        advised.running.popen.wait()
        with contextlib.suppress(FileNotFoundError):
            until(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()
