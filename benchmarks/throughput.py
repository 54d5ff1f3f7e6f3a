"""How much memory a second PAGEOUT moves to zram, by one thread and by two."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from time import perf_counter

from benchmarks.children import Child, filled
from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row
from benchmarks.zram import swap_on_zram
from pmadvise import Process

SIZE = 512 << 20
SWAP = 3 << 30


def page_out(child: Child) -> None:
    """Page out a child."""
    with Process(child.pid) as process:
        report = process.pageout([(child.hello, SIZE)])
    if report.advised != SIZE:
        raise RuntimeError(f"not all of it was advised: {report}")


def rate(
    name: str, pool: ThreadPoolExecutor, children: Sequence[Child]
) -> Mapping[str, float]:
    """Return the bytes a second, each child by a thread of its own."""
    begin = perf_counter()
    list(pool.map(page_out, children))
    seconds = perf_counter() - begin
    for child in children:
        with Process(child.pid) as process:
            moved = process.swapped().total
        if moved < 0.98 * SIZE:
            raise RuntimeError(f"{moved} bytes of {SIZE} are in swap")
        child.ask("write")
    return {name: len(children) * SIZE / seconds}


def set_up(stack: ExitStack) -> Plan:
    """Turn swap on, fork two children, and keep two threads ready."""
    algorithm = swap_on_zram(stack, SWAP)
    children = [Child(stack, filled, SIZE) for _ in range(2)]
    pool = stack.enter_context(ThreadPoolExecutor(2))
    rows = [
        Row("one target, one thread", "one", "GB/s", scale=1e-9),
        Row("two targets, two threads", "two", "GB/s", scale=1e-9),
    ]
    notes = [f"half of the memory is random; zram compresses with {algorithm}"]
    if len(os.sched_getaffinity(0)) > 1:
        rows.append(
            Row("two to one", "two", per="one", bound=Bound(1.9, at_least=True))
        )
    else:
        notes.append("one CPU: two threads can't be faster")
    return Plan(
        cases=[
            partial(rate, "one", pool, children[:1]),
            partial(rate, "two", pool, children),
        ],
        rows=rows,
        rounds=12,
        plot=Plot(
            "",
            "GB/s",
            {"PAGEOUT": [("one thread", "one"), ("two targets, two threads", "two")]},
            scale=1e-9,
            log=False,
        ),
        notes=notes,
    )


BENCHMARK = Benchmark(
    "pageout", "PAGEOUT to zram", set_up, 45, ("root", "zram", "memory")
)
