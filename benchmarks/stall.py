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

from benchmarks import peers
from benchmarks.children import Child, filled
from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row
from benchmarks.zram import swap_on_zram
from pmadvise import Advice, Process

SIZE = 1 << 30
SWAP = 3 << 30
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


def page_out_in_c(program: Path, child: Child, max_stall: float) -> Mapping[str, float]:
    """Return the seconds, and those of CPU, that the C program measures."""
    arguments = (child.pid, child.hello, SIZE, int(Advice.PAGEOUT), max_stall)
    output = subprocess.check_output([program, *map(str, arguments)])
    seconds, cpu, advised, _ = map(float, output.split())
    if advised != SIZE:
        raise RuntimeError(f"the C program advised {advised} bytes of {SIZE}")
    child.ask("read")
    return {"rest C": seconds, "rest C cpu": cpu}


def at_rest(program: Path, child: Child, max_stall: float) -> Mapping[str, float]:
    """Return the means without a bound, with one, and in C, measured there and back.

    The ratios are near their bounds, and the machine's speed drifts within a round.
    """
    means: dict[str, float] = {}

    def add(found: Mapping[str, float]) -> None:
        for name, seconds in found.items():
            means[name] = means.get(name, 0) + seconds / 2

    def ours(bound: float | None) -> None:
        add(page_out(child, "rest", bound))

    ours(None)
    ours(max_stall)
    add(page_out_in_c(program, child, max_stall))
    add(page_out_in_c(program, child, max_stall))
    ours(max_stall)
    ours(None)
    ours_cpu = means[f"rest {label(max_stall)} cpu"]
    means["rest cpu over"] = ours_cpu - means["rest C cpu"]
    return means


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
                f"CPU above that C program, a GiB, max_stall={ours}",
                "rest cpu over",
                "ms",
                scale=1e3 * (1 << 30) / SIZE,
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
    "stall", "Stall of the target", set_up, 150, ("root", "zram", "memory")
)
