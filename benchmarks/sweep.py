"""A daemon's sweep over 300 idle processes, of which nothing is left to page out."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

from benchmarks import peers
from benchmarks.children import sleeper
from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row, there_and_back, timed
from benchmarks.zram import swap_on_zram
from pmadvise import Advice, Process, advise_each

PROCESSES = 300
SWAP = 1 << 30


def looks(pids: Sequence[int]) -> None:
    """Look at each process."""
    for pid in pids:
        with Process(pid) as process:
            process.status()


def looks_with_c(program: Path, pids: Sequence[int]) -> Mapping[str, float]:
    """Return the seconds that the C program measures, its own start left out."""
    output = subprocess.check_output([program, *map(str, pids)])
    looked, kept = (float(n) * len(pids) / 1e6 for n in output.split())
    return {"looks C": looked, "kept C": kept}


def kept_looks(handles: Sequence[Process]) -> None:
    """Look at each process, by handles that are open."""
    for process in handles:
        process.status()


def looks_with_psutil(pids: Sequence[int]) -> None:
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


def sweep(pids: Sequence[int]) -> None:
    """Open all, look, decide, and page out what is idle."""
    with ExitStack() as stack:
        handles = [stack.enter_context(Process(pid)) for pid in pids]
        idle = [one for one in handles if one.status().state == "S"]
        advise_each(idle, Advice.PAGEOUT, budget=1 << 30)


def sweep_with_psutil(pids: Sequence[int]) -> None:
    """Do the same as people do it today."""
    looks_with_psutil(pids)
    for pid in pids:
        peers.advise_with_psutil(pid, Advice.PAGEOUT, resident=True)


def sleepers(stack: ExitStack) -> list[int]:
    """Start the processes; all of their memory that can be is paged out."""
    pids = [sleeper(stack) for _ in range(PROCESSES)]
    handles = [stack.enter_context(Process(pid)) for pid in pids]
    while any(one.status().state != "S" for one in handles):
        pass
    for _ in range(3):
        advise_each(handles, Advice.PAGEOUT)
    return pids


def set_up(stack: ExitStack) -> Plan:
    """Turn swap on, and start the processes."""
    program = peers.program(stack, "look_all")
    swap_on_zram(stack, SWAP)
    pids = sleepers(stack)
    kept = [stack.enter_context(Process(pid)) for pid in pids]
    names = {
        "looks C": "opened, status, closed, a C program",
        "looks": "opened, status, closed",
        "kept C": "status of an open one, a C program",
        "kept": "status of an open one",
        "looks psutil": "status of each, psutil",
        "sweep": "the sweep",
        "sweep psutil": "the sweep, psutil with ctypes",
    }
    scale = 1e6 / PROCESSES
    return Plan(
        cases=[
            partial(
                there_and_back,
                partial(looks_with_c, program, pids),
                timed("looks", partial(looks, pids)),
                timed("kept", partial(kept_looks, kept)),
            ),
            timed("looks psutil", partial(looks_with_psutil, pids)),
            timed("sweep", partial(sweep, pids)),
            timed("sweep psutil", partial(sweep_with_psutil, pids)),
        ],
        rows=[
            *(
                Row(
                    label,
                    name,
                    "µs a process",
                    scale=scale,
                )
                for name, label in names.items()
            ),
            Row(
                "opened, status, closed: pmadvise vs a C program",
                "looks",
                per="looks C",
                bound=Bound(2),
            ),
            Row(
                "status of an open one: pmadvise vs a C program",
                "kept",
                per="kept C",
                bound=Bound(1.5),
            ),
            Row("status: psutil vs pmadvise", "looks psutil", per="looks"),
            Row(
                "the sweep: psutil vs pmadvise",
                "sweep psutil",
                per="sweep",
            ),
        ],
        rounds=25,
        plot=Plot(
            "",
            "µs a process",
            {
                f"{PROCESSES} processes": [
                    (label, name) for name, label in names.items()
                ]
            },
            scale=scale,
            log=False,
        ),
        notes=["the sweep: open all, status, and page out the idle ones, to no effect"],
    )


BENCHMARK = Benchmark(
    "sweep",
    f"{PROCESSES} processes",
    set_up,
    30,
    ("root", "compiler", "zram"),
)
