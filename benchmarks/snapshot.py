"""How much memory a snapshot of the mappings takes, for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from benchmarks.children import Child, mappings
from benchmarks.harness import Benchmark, Plan, Plot, Row
from pmadvise import Process

MAPPINGS = 20_000


def own_memory() -> int:
    """Return the bytes of anonymous memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10


def taking(connection: Connection, pid: int, with_psutil: int) -> None:
    """Take a snapshot of a process, and send how much memory it takes here."""
    ours, other = Process(pid), psutil.Process(pid)
    before = own_memory()
    kept = other.memory_maps(grouped=False) if with_psutil else ours.maps()
    connection.send(own_memory() - before)
    del kept


def taken(name: str, pid: int) -> Mapping[str, float]:
    """Return the bytes for a mapping, of an interpreter that has nothing else."""
    with ExitStack() as stack:
        size = Child(stack, taking, pid, int(name == "psutil")).hello
    return {name: size / MAPPINGS}


def set_up(stack: ExitStack) -> Plan:
    """Fork a child with mappings."""
    pid = Child(stack, mappings, MAPPINGS).pid
    labels = {"pmadvise": "Process.maps()", "psutil": "psutil's memory_maps()"}
    return Plan(
        cases=[partial(taken, name, pid) for name in labels],
        rows=[
            *(Row(label, name, "bytes a mapping") for name, label in labels.items()),
            Row("memory: psutil vs pmadvise", "psutil", per="pmadvise"),
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
        notes=["the growth of RssAnon of an interpreter that takes one"],
    )


BENCHMARK = Benchmark("snapshot", "Memory of a snapshot", set_up, 15)
