"""From a process ID to a report, for 100 to 60,000 mappings."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.children import Child, mappings
from benchmarks.harness import (
    Benchmark,
    Bound,
    Case,
    Plan,
    Plot,
    Row,
    there_and_back,
    timed,
)
from pmadvise import Advice, Process

SIZES = (100, 1_000, 10_000, 60_000)
LABELS = {"C": "a C program", "pmadvise": "pmadvise", "psutil": "psutil with ctypes"}


def with_pmadvise(pid: int) -> None:
    """Advise all of it."""
    with Process(pid) as process:
        report = process.cold()
    if report.ended != "complete" or report.skipped:
        raise RuntimeError(f"not all of it was advised: {report}")


def with_c(program: Path, name: str, pid: int) -> Mapping[str, float]:
    """Return the seconds that the C program measures, its own start left out."""
    output = subprocess.check_output([program, str(pid), str(int(Advice.COLD))])
    return {name: float(output.split()[0])}


def set_up(stack: ExitStack) -> Plan:
    """Fork a child for each number of mappings."""
    program = peers.program(stack, "advise_all")
    cases: list[Case] = []
    for n in SIZES:
        pid = Child(stack, mappings, n).pid
        cases += [
            partial(
                there_and_back,
                partial(with_c, program, f"C {n}", pid),
                timed(f"pmadvise {n}", partial(with_pmadvise, pid)),
            ),
            timed(f"psutil {n}", partial(peers.advise_with_psutil, pid, Advice.COLD)),
        ]
    rows = [
        Row(f"{n:,} mappings, pmadvise", f"pmadvise {n}", "ms", scale=1e3)
        for n in SIZES
    ]
    for n in SIZES:
        last = n == SIZES[-1]
        bounds = (Bound(1.05), Bound(15, at_least=True)) if last else (None, None)
        ours, c, psutil = f"pmadvise {n}", f"C {n}", f"psutil {n}"
        rows.append(
            Row(
                f"{n:,} mappings: pmadvise vs a C program", ours, per=c, bound=bounds[0]
            )
        )
        rows.append(
            Row(
                f"{n:,} mappings: psutil vs pmadvise", psutil, per=ours, bound=bounds[1]
            )
        )
    return Plan(
        cases=cases,
        rows=rows,
        rounds=25,
        plot=Plot(
            "mappings",
            "ms from a process ID to the report",
            {
                label: [(n, f"{peer} {n}") for n in SIZES]
                for peer, label in LABELS.items()
            },
            scale=1e3,
        ),
    )


BENCHMARK = Benchmark(
    "mappings",
    "A whole process by its mappings",
    set_up,
    30,
    ("root", "compiler", "mappings"),
)
