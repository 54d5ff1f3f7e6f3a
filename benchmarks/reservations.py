"""What reserved but empty addresses cost: nothing."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks.children import Child, reserving
from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row, timed
from pmadvise import Process

USED = 16 << 20
GIB, TIB = 1 << 30, 1 << 40
SIZES = {"1 GiB": GIB, "32 GiB": 32 * GIB, "1 TiB": TIB, "100 TiB": 100 * TIB}
GROWTH = 1.15
"""The bound: what noise alone makes of medians."""


def advise(pid: int) -> None:
    """Advise the default selection of a process."""
    with Process(pid) as process:
        report = process.cold()
    if not USED <= report.advised < 8 * USED:
        raise RuntimeError(f"more or less than what is in memory: {report}")


def set_up(stack: ExitStack) -> Plan:
    """Fork a child for each size."""
    pids = {name: Child(stack, reserving, n, USED).pid for name, n in SIZES.items()}
    return Plan(
        cases=[timed(name, partial(advise, pid)) for name, pid in pids.items()],
        rows=[
            *(Row(f"{name} reserved", name, "ms", scale=1e3) for name in SIZES),
            Row(
                "100 TiB reserved vs 1 GiB", "100 TiB", per="1 GiB", bound=Bound(GROWTH)
            ),
        ],
        rounds=200,
        plot=Plot(
            "reserved",
            "ms from a process ID to the report",
            {f"cold(), {USED >> 20} MiB in memory": [(name, name) for name in SIZES]},
            scale=1e3,
            log=False,
        ),
    )


BENCHMARK = Benchmark("reserved", "Reserved addresses", set_up, 15, ("root",))
