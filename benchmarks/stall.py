"""How long paging out stalls a target that calls mmap(2), and what max_stall costs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from time import perf_counter

from benchmarks.children import Child, filled
from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row
from benchmarks.zram import swap_on_zram
from pmadvise import Process

SIZE = 1 << 30
SWAP = 3 << 30
STALLS = (None, 0.050, 0.010, 0.002)


def label(max_stall: float | None) -> str:
    """Return a max_stall as it is shown."""
    return "none" if max_stall is None else f"{1000 * max_stall:g} ms"


def page_out(child: Child, state: str, max_stall: float | None) -> Mapping[str, float]:
    """Return the seconds that it took, and those of the target's longest mmap(2)."""
    runs = state != "rest"
    if state == "written":
        child.ask("write")
    if runs:
        child.ask("maps")
    with Process(child.pid) as process:
        begin = perf_counter()
        report = process.pageout([(child.hello, SIZE)], max_stall=max_stall)
        seconds = perf_counter() - begin
        wait = child.ask("stop") if runs else 0.0
        moved = process.swapped().total
    if report.advised != SIZE or moved < 0.98 * SIZE:
        raise RuntimeError(f"{moved} bytes of {SIZE} are in swap: {report}")
    child.ask("read")
    name = f"{state} {label(max_stall)}"
    return {name: seconds, f"{name} wait": wait} if runs else {name: seconds}


def at_rest(child: Child, max_stall: float) -> Mapping[str, float]:
    """Return the mean seconds without a bound and with one, measured there and back.

    The ratio is near its bound, and the machine's speed drifts within a round.
    """
    means: dict[str, float] = {}
    for bound in (None, max_stall, max_stall, None):
        for name, seconds in page_out(child, "rest", bound).items():
            means[name] = means.get(name, 0) + seconds / 2
    return means


def set_up(stack: ExitStack) -> Plan:
    """Turn swap on, and fork a child."""
    algorithm = swap_on_zram(stack, SWAP)
    child = Child(stack, filled, SIZE)
    page_out(child, "rest", None)  # what it wrote at first is clean from here on
    names = [label(max_stall) for max_stall in STALLS]
    most, ours = label(None), label(0.010)
    return Plan(
        cases=[
            *(partial(page_out, child, "busy", max_stall) for max_stall in STALLS),
            partial(at_rest, child, 0.010),
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
