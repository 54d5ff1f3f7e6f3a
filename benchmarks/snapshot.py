"""How much memory a snapshot of the mappings takes, for each of them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import psutil

from benchmarks.children import Child, mappings
from benchmarks.harness import Benchmark, Plan, Plot, Row
from pmadvise import Process

MAPPINGS = 20_000


def taken(name: str, snapshot: Callable[[], object]) -> Mapping[str, float]:
    """Return the bytes for a mapping that Python allocated and still has."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = snapshot()
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del kept
    return {name: size / MAPPINGS}


def set_up(stack: ExitStack) -> Plan:
    """Fork a child with mappings."""
    child = Child(stack, mappings(MAPPINGS))
    process = stack.enter_context(Process(child.pid))
    other = psutil.Process(child.pid)
    process.maps()
    labels = {"pmadvise": "Process.maps()", "psutil": "psutil's memory_maps()"}
    return Plan(
        cases=[
            partial(taken, "pmadvise", process.maps),
            partial(taken, "psutil", partial(other.memory_maps, grouped=False)),
        ],
        rows=[
            *(Row(label, name, "bytes a mapping") for name, label in labels.items()),
            Row("psutil to pmadvise", "psutil", per="pmadvise"),
        ],
        rounds=5,
        plot=Plot(
            "",
            "bytes a mapping",
            {
                f"{MAPPINGS:,} mappings": [
                    (label, name) for name, label in labels.items()
                ]
            },
            log=False,
        ),
        notes=["as tracemalloc counts it: native arrays are of Python's allocator too"],
    )


BENCHMARK = Benchmark("snapshot", "Memory of a snapshot", set_up, 15)
