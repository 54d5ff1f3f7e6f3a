"""How long paging out stalls a target that calls mmap(2), and what max_stall costs.

The floor is a C program that makes the same calls, with the same pauses and looks.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from unittest import mock

from benchmarks import peers
from benchmarks.children import Child, filled
from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row, one_cpu
from benchmarks.zram import swap_on_zram
from pmadvise import Advice, Process
from pmadvise._native import mm as native_mm

SIZE = 1 << 30
SWAP = 3 << 30
PIECE = 512 << 20
TURNS = 2
"""GiB that each way pages out, in all."""
STALLS = (None, 0.050, 0.010, 0.002)


def label(max_stall: float | None) -> str:
    """Return a max_stall as it is shown."""
    return "none" if max_stall is None else f"{1000 * max_stall:g} ms"


def page_out(child: Child, state: str, max_stall: float | None) -> Mapping[str, float]:
    """Return the seconds that it took, of CPU too, and of the longest mmap(2)."""
    runs = state != "rest"
    if state == "written":
        child.ask("write")
    if runs:
        child.ask("maps")
    with Process(child.pid) as process:
        begin, cpu = perf_counter(), process_time()
        report = process.pageout([(child.hello, SIZE)], max_stall=max_stall)
        seconds, cpu = perf_counter() - begin, process_time() - cpu
        wait = child.ask("stop") if runs else 0.0
        moved = process.swapped().total
    if report.advised != SIZE or moved < 0.98 * SIZE:
        raise RuntimeError(f"{moved} bytes of {SIZE} are in swap: {report}")
    child.ask("read")
    name = f"{state} {label(max_stall)}"
    return {name: seconds, f"{name} cpu": cpu, f"{name} wait": wait}


def at_rest(program: Path, child: Child, max_stall: float) -> Mapping[str, float]:
    """Return the seconds a GiB without a bound, with one, and in C.

    The ratios are near their bounds, and the machine's speed drifts: so they take turns
    at pieces, there and back, and all at the same CPU, as an interrupt of another one
    costs more than what is compared.
    """
    found: dict[str, float] = {}
    real_call = native_mm.mm_advise
    spent = 0.0

    def timed_call(*arguments: Any) -> int:
        nonlocal spent
        ended = real_call(*arguments)
        spent = arguments[-1].spent
        return ended

    def ours(bound: float | None, address: int) -> None:
        name, begin, cpu = f"rest {label(bound)}", perf_counter(), process_time()
        advised = process.pageout([(address, PIECE)], max_stall=bound).advised
        cpu = process_time() - cpu
        add(name, perf_counter() - begin, cpu, advised, spent)

    def in_c(address: int) -> None:
        arguments = (child.pid, address, PIECE, int(Advice.PAGEOUT), max_stall)
        output = subprocess.check_output([program, *map(str, arguments)])
        add("rest C", *map(float, output.split()))

    def add(
        name: str, seconds: float, cpu: float, advised: float, in_calls: float
    ) -> None:
        if advised != PIECE:
            raise RuntimeError(f"{name}: {advised} bytes of {PIECE} were advised")
        found[name] = found.get(name, 0) + seconds / TURNS
        between = found.get(name + " between", 0) + (cpu - in_calls) / TURNS
        found[name + " between"] = between

    there = [partial(ours, None), partial(ours, max_stall), partial(in_c)]
    turns = [*there, *reversed(there)]
    calls = mock.patch.object(native_mm, "mm_advise", timed_call)
    with Process(child.pid) as process, one_cpu(child.pid), calls:
        for shift in range(len(turns)):
            for index, at in enumerate(range(0, SIZE, PIECE)):
                turns[(index + shift) % len(turns)](child.hello + at)
            if process.swapped().total < 0.98 * SIZE:
                raise RuntimeError("not all is in swap")
            child.ask("read")
    over = found[f"rest {label(max_stall)} between"] - found["rest C between"]
    return {**found, "rest over": over}


def set_up(stack: ExitStack) -> Plan:
    """Turn swap on, and fork a child."""
    program = peers.program(stack, "paced")
    algorithm = swap_on_zram(stack, SWAP)
    child = Child(stack, filled, SIZE)
    page_out(child, "rest", None)  # what it wrote at first is clean from here on
    names = [label(max_stall) for max_stall in STALLS]
    most, ours = label(None), label(0.010)
    return Plan(
        cases=[
            *(partial(page_out, child, "busy", max_stall) for max_stall in STALLS),
            partial(at_rest, program, child, 0.010),
            partial(page_out, child, "written", None),
            partial(page_out, child, "written", 0.010),
        ],
        rows=[
            *(
                Row(
                    f"longest mmap(2), max_stall {name}",
                    f"busy {name} wait",
                    "ms",
                    scale=1e3,
                )
                for name in names
            ),
            *(
                Row(f"total time, max_stall {name}", f"busy {name}", "ms", "", 1e3)
                for name in names
            ),
            Row(
                f"longest stall of the target: unlimited vs max_stall={ours}",
                f"busy {most} wait",
                per=f"busy {ours} wait",
                bound=Bound(50, at_least=True),
            ),
            Row(
                f"total time: max_stall={ours} vs unlimited",
                f"busy {ours}",
                per=f"busy {most}",
                bound=Bound(1.5),
            ),
            Row(
                f"total time, target at rest: max_stall={ours} vs unlimited",
                f"rest {ours}",
                per=f"rest {most}",
                bound=Bound(1.15),
            ),
            Row(
                f"total time, target at rest, max_stall={ours}: pmadvise vs a C "
                "program",
                f"rest {ours}",
                per="rest C",
                bound=Bound(1.05),
            ),
            Row(
                "CPU between the calls, a GiB, a C program",
                "rest C between",
                "ms",
                scale=1e3,
            ),
            Row(
                "CPU between the calls, a GiB: above that of the C program",
                "rest over",
                "ms",
                scale=1e3,
                bound=Bound(25),
            ),
            Row(
                f"total time, memory just written: max_stall={ours} vs unlimited",
                f"written {ours}",
                per=f"written {most}",
            ),
        ],
        rounds=7,
        plot=Plot(
            "max_stall",
            "ms",
            {
                "longest mmap(2) of the target": [(n, f"busy {n} wait") for n in names],
                "time in all": [(n, f"busy {n}") for n in names],
            },
            scale=1e3,
        ),
        notes=[
            f"{SIZE >> 30} GiB to zram, {algorithm}; the target loops over mmap(2)",
            "the memory was read back from swap, and not written since; of memory that "
            "was, the kernel interrupts the CPU where the target runs once a page: "
            "mm/rmap.c, try_to_unmap_flush_dirty()",
        ],
    )


BENCHMARK = Benchmark(
    "stall", "Stall of the target", set_up, 100, ("root", "zram", "memory")
)
