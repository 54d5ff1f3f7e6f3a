"""The states that a target may be in, and whose CPU time it costs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import proc
from helpers.targets import LRU_BATCH, MIB, PAGE, Target, send_signal
from helpers.waiting import wait_for_state

from pmadvise import (
    Advice,
    Ranges,
    process_madvise,
    process_madvise_range,
)

pytestmark = pytest.mark.needs_root

TRACER = """
import ctypes, sys
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
libc, pid = ctypes.CDLL(None), int(sys.argv[1])
for request in PTRACE_SEIZE, PTRACE_INTERRUPT:
    print(libc.ptrace(request, pid, None, None), flush=True)
sys.stdin.read()
"""


def test_stopped_target(target: Target) -> None:
    """A stopped process is advised like a running one."""
    address = target.filled(4 * MIB)
    send_signal(target.pidfd, signal.SIGSTOP)
    wait_for_state(target.pid, "T")
    process_madvise_range(target.pidfd, address, 4 * MIB, Advice.COLD)
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    send_signal(target.pidfd, signal.SIGCONT)


def test_target_traced_by_another(target: Target) -> None:
    """A process that a debugger holds is advised, where injection could not work."""
    address = target.filled(4 * MIB)
    tracer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            TRACER,
            str(target.pid),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with tracer:
        assert tracer.stdout is not None
        assert [tracer.stdout.readline() for _ in range(2)] == ["0\n", "0\n"]
        wait_for_state(target.pid, "t")
        process_madvise_range(target.pidfd, address, 4 * MIB, Advice.COLD)
        assert target.smaps(address, "Referenced") <= LRU_BATCH
        tracer.communicate()
    assert target.intact(address, 4 * MIB)


@pytest.mark.needs_swap
def test_work_is_charged_to_the_caller(target: Target) -> None:
    """The caller pays for the work: the target's CPU time does not move."""
    address = target.filled(64 * MIB)
    send_signal(target.pidfd, signal.SIGSTOP)
    wait_for_state(target.pid, "T")
    before, own = proc.cpu_seconds(target.pid), time.thread_time_ns()
    process_madvise_range(target.pidfd, address, 64 * MIB, Advice.PAGEOUT)
    assert proc.cpu_seconds(target.pid) == before
    assert time.thread_time_ns() > own
    send_signal(target.pidfd, signal.SIGCONT)
    assert target.intact(address, 64 * MIB)


def test_threads_call_at_once(target: Target) -> None:
    """One Ranges is used by several threads at a time."""
    address = target.filled(256 * PAGE)
    ranges = Ranges((address + i * PAGE, PAGE) for i in range(256))
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(
            lambda _: process_madvise(target.pidfd, ranges, Advice.COLD), range(64)
        )
        assert set(done) == {256 * PAGE}
