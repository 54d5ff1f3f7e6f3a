"""Nothing stands between the last look at an address space and the call."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.targets import GIB, PAGE, SHELL, Target, exec_shell

from pmadvise import Advice, Process, Ranges
from pmadvise._advise.kernel import Kernel
from pmadvise._advise.profiles import profile_of
from pmadvise._handle.identity import Identity
from pmadvise._handle.mm import open_mm
from pmadvise._native.mm import Burst

pytestmark = pytest.mark.needs_root

N_THREADS = 4


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Four threads that want the GIL all the time, and get it often."""
    stop, interval = threading.Event(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def spin() -> None:
        while not stop.is_set():
            sum(range(10))

    threads = [threading.Thread(target=spin) for _ in range(N_THREADS)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_the_call_itself_looks(target: Target) -> None:
    """The function that makes the call makes none behind an exec."""
    identity = Identity.open(target.pid)
    mm = open_mm(identity)
    kernel = Kernel(mm, profile_of(Advice.COLD), lambda: None)
    kernel.open()
    vector = Ranges([(target.filled(PAGE), PAGE)])._array
    alone = Burst()
    assert kernel.advise(vector, alone)[:2] == (None, PAGE)
    exec_shell(target)
    ends = [kernel.advise(vector, alone)[0] for _ in range(2)]
    kernel.close()
    identity.close()
    tally = kernel.tally
    assert (ends, tally.calls, tally.advised) == (["exec", "exec"], 1, PAGE)


def test_calls_that_follow_look_too(target: Target) -> None:
    """However many calls one crossing makes, none is begun behind an exec."""
    identity = Identity.open(target.pid)
    mm = open_mm(identity)
    kernel = Kernel(mm, profile_of(Advice.COLD), lambda: None)
    kernel.open()
    address = target.reserved(64 * GIB)
    vector = Ranges([(address, PAGE)])._array
    burst = Burst()
    burst.set(64 * GIB // PAGE, 0, 10**18, 60 * 10**9, 10**18)
    soon = threading.Timer(0.05, exec_shell, [target])
    soon.start()
    end, result, _ = kernel.advise(vector, burst)
    soon.join()
    calls = kernel.tally.calls
    if end is None:
        # It was begun while the exec was under way, and waited for it: mm_access()
        # takes exec_update_lock. It finds nothing there, and is not followed.
        assert result == -errno.ENOMEM
        end, calls = kernel.ended(), calls - 1
    kernel.close()
    identity.close()
    assert end == "exec"
    assert calls > 1
    assert vector.get(0)[0] - address == kernel.tally.advised == calls * PAGE


@pytest.mark.usefixtures("busy_threads")
def test_exec_between_two_calls_under_load(target: Target, process: Process) -> None:
    """However busy the caller is, no call follows an exec that came before it."""
    for _ in range(10):
        address = target.reserved(4 * GIB)
        process.maps()
        report = process.cold(
            [(address, 4 * GIB)],
            budget=4 * GIB,
            on_progress=lambda done, total: target.exec_again(),
        )
        assert (report.ended, report.calls) == ("exec", 1)


@pytest.fixture
def executing(tmp_path: Path) -> Iterator[int]:
    """A process that executes its program again and again."""
    script = tmp_path / "script"
    script.write_text(f"exec {SHELL} {script}\n")
    with subprocess.Popen([SHELL, script]) as shell:
        yield shell.pid
        shell.kill()


@pytest.mark.usefixtures("busy_threads")
def test_a_program_that_execs_all_the_time(executing: int) -> None:
    """Of a process that execs again and again no address space is advised late."""
    # A late call would be one on addresses that the new program does not have, so it
    # would show as a range that is not mapped.
    for _ in range(50):
        with Process(executing) as process:
            report = process.cold(budget=GIB)
            assert report.skipped == ()
