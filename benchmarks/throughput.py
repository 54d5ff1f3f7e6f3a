"""How much memory a second PAGEOUT moves to zram, by one thread and by two."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from time import perf_counter, thread_time

from benchmarks import peers
from benchmarks.children import Child, filled
from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row
from benchmarks.zram import swap_on_zram
from pmadvise import Advice, Process, pidfd_open

SIZE = 512 << 20
SWAP = 3 << 30


def page_out(child: Child) -> None:
    """Page out a child."""
    with Process(child.pid) as process:
        report = process.pageout([(child.hello, SIZE)])
    if report.advised != SIZE:
        raise RuntimeError(f"not all of it was advised: {report}")


def page_out_in_c(loop: Callable[..., float], child: Child) -> None:
    """Page out a child by one call from C, which lets other threads run."""
    pidfd = pidfd_open(child.pid)
    loop(pidfd, peers.packed([(child.hello, SIZE)]), Advice.PAGEOUT, 1)
    os.close(pidfd)


def rate(
    way: Callable[[Child], None], pool: ThreadPoolExecutor, children: Sequence[Child]
) -> tuple[float, float]:
    """Page out each child by a thread of its own.

    Returns:
        Bytes a second; how many CPUs the threads kept busy, each while it worked.
    """

    def work(child: Child) -> float:
        begin, on_cpu = perf_counter(), thread_time()
        way(child)
        return (thread_time() - on_cpu) / (perf_counter() - begin)

    begin = perf_counter()
    cpus = sum(pool.map(work, children))
    seconds = perf_counter() - begin
    for child in children:
        with Process(child.pid) as process:
            moved = process.swapped().total
        if moved < 0.98 * SIZE:
            raise RuntimeError(f"{moved} bytes of {SIZE} are in swap")
        child.ask("write")
    return len(children) * SIZE / seconds, cpus


def rates(
    name: str,
    way: Callable[[Child], None],
    pool: ThreadPoolExecutor,
    children: Sequence[Child],
) -> Mapping[str, float]:
    """Return the bytes a second of a way, by one thread and by two, and the gain."""
    one, cpus_of_one = rate(way, pool, children[:1])
    two, cpus_of_two = rate(way, pool, children)
    return {
        f"{name} 1": one,
        f"{name} 2": two,
        f"{name} gain": two / one,
        f"{name} cpus": cpus_of_two / cpus_of_one,
    }


def set_up(stack: ExitStack) -> Plan:
    """Turn swap on, fork two children, and keep two threads ready."""
    algorithm = swap_on_zram(stack, SWAP)
    children = [Child(stack, filled, SIZE) for _ in range(2)]
    pool = stack.enter_context(ThreadPoolExecutor(2))
    in_c = partial(page_out_in_c, peers.unchecked(stack).loop)
    rows = [
        Row("one target, one thread", "pmadvise 1", "GB/s", scale=1e-9),
        Row("one target, one thread in C", "C 1", "GB/s", scale=1e-9),
        Row("two targets, two threads", "pmadvise 2", "GB/s", scale=1e-9),
        Row("two targets, two threads in C", "C 2", "GB/s", scale=1e-9),
    ]
    notes = [f"half of the memory is random; zram compresses with {algorithm}"]
    if len(os.sched_getaffinity(0)) > 1:
        rows += [
            Row("throughput: two targets vs one", "pmadvise gain"),
            Row("throughput in C: two targets vs one", "C gain"),
            Row(
                "busy CPUs: two targets vs one",
                "pmadvise cpus",
                bound=Bound(1.9, at_least=True),
            ),
            Row("busy CPUs in C: two targets vs one", "C cpus"),
        ]
        notes.append(
            "what CPUs share, of memory and of the host of a virtual machine, limits "
            "the gain, in C too; that no thread waits for the other, the CPUs show"
        )
    else:
        notes.append("one CPU: two threads can't be faster")
    return Plan(
        cases=[
            partial(rates, "pmadvise", page_out, pool, children),
            partial(rates, "C", in_c, pool, children),
        ],
        rows=rows,
        rounds=12,
        plot=Plot(
            "",
            "GB/s",
            {
                "PAGEOUT": [
                    ("one thread", "pmadvise 1"),
                    ("one thread in C", "C 1"),
                    ("two targets, two threads", "pmadvise 2"),
                    ("two targets, two threads in C", "C 2"),
                ]
            },
            scale=1e-9,
            log=False,
        ),
        notes=notes,
    )


BENCHMARK = Benchmark(
    "pageout",
    "PAGEOUT to zram",
    set_up,
    45,
    ("root", "zram", "memory", "compiler"),
)
