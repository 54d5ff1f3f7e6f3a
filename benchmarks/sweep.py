"""A daemon's sweep over 300 processes: against a C program, and psutil doing as much.

    python -m benchmarks.sweep [rounds]

Two sweeps: the looks alone (open, status, close), and the whole (open all, status,
decide, a no-op pageout of each). Rounds are interleaved; printed are medians, of
microseconds for a process and of ratios. Needs a C compiler, psutil (the dependency
group "bench") and permission to advise its own children.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter

import psutil

import pmadvise

PROCESSES = 300


@contextmanager
def children() -> Iterator[list[int]]:
    """Yield the IDs of idle children, of which nothing is left to page out."""
    pids = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/sleep", ["sleep", "1000"])
        pids.append(pid)
    time.sleep(0.5)
    try:
        with ExitStack() as stack:
            handles = [stack.enter_context(pmadvise.Process(pid)) for pid in pids]
            for _ in range(3):
                pmadvise.advise_each(handles, pmadvise.Advice.PAGEOUT)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def looks(pids: list[int]) -> None:
    """Look at each process."""
    for pid in pids:
        with pmadvise.Process(pid) as process:
            process.status()


def looks_with_psutil(pids: list[int]) -> None:
    """Look at each process for as much: sizes, swap, threads, times, faults."""
    for pid in pids:
        process = psutil.Process(pid)
        with process.oneshot():
            process.memory_info()
            process.cpu_times()
            process.num_threads()
            process.create_time()
            process.status()
        process.memory_full_info()


def sweep(pids: list[int]) -> None:
    """Open all, look, decide, page out what is idle (nothing is left)."""
    with ExitStack() as stack:
        handles = [stack.enter_context(pmadvise.Process(pid)) for pid in pids]
        looked = [(handle.status(), handle) for handle in handles]
        idle = [handle for status, handle in looked if status.state == "S"]
        pmadvise.advise_each(idle, pmadvise.Advice.PAGEOUT, budget=1 << 30)


def sweep_with_psutil(pids: list[int]) -> None:
    """The same as people do it today: memory_maps() for the ranges of each."""
    looks_with_psutil(pids)
    for pid in pids:
        pidfd = os.pidfd_open(pid)
        chosen = []
        for one in psutil.Process(pid).memory_maps(grouped=False):
            anonymous = one.path in ("[anon]", "[heap]", "[stack]")
            if anonymous and one.anonymous and one.perms.endswith("p"):
                start, end = (int(part, 16) for part in one.addr.split("-"))
                chosen.append((start, end - start))
        if chosen:
            pmadvise.process_madvise(pidfd, chosen, pmadvise.Advice.PAGEOUT)
        os.close(pidfd)


def microseconds(function: Callable[[list[int]], None], pids: list[int]) -> float:
    """Return the time for a process."""
    begin = perf_counter()
    function(pids)
    return 1e6 * (perf_counter() - begin) / len(pids)


def main(rounds: int) -> None:
    """Run the rounds and print the medians."""
    samples: dict[str, list[float]] = {}

    def sample(name: str, value: float) -> None:
        samples.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as folder, children() as pids:
        program = Path(folder, "look_all")
        source = Path(__file__).with_name("look_all.c")
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        for _ in range(rounds):
            output = subprocess.check_output([program, *map(str, pids)], text=True)
            in_c = float(output)
            ours = microseconds(looks, pids)
            sample("open, status, close: us", ours)
            sample("... / the C program", ours / in_c)
            theirs = microseconds(looks_with_psutil, pids)
            sample("... psutil / that", theirs / ours)
            ours = microseconds(sweep, pids)
            sample("sweep with no-op pageout: us", ours)
            theirs = microseconds(sweep_with_psutil, pids)
            sample("... psutil / the sweep", theirs / ours)
    for name, values in samples.items():
        print(f"{name:32} {statistics.median(values):8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
