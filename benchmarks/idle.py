"""What a Tracker costs: a look, the target's slowdown, and memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

from benchmarks.children import Child, filled, mapped, sleeper
from benchmarks.harness import Benchmark, Plan, Row
from benchmarks.snapshot import own_memory
from pmadvise import PAGE_SIZE, Process, Tracker

GIB = 1 << 30
PROCESSES = 300


def look(tracker: Tracker) -> Mapping[str, float]:
    """Return the seconds of a look at 1 GiB."""
    begin = perf_counter()
    tracker.look()
    return {"look": perf_counter() - begin}


def look_by_hand(pid: int) -> Mapping[str, float]:
    """Return the seconds of what people do today, which says nothing of residency."""
    begin = perf_counter()
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    [line for line in smaps.split("\n") if line.startswith("Referenced")]
    Path(f"/proc/{pid}/clear_refs").write_text("1")
    return {"by hand": perf_counter() - begin}


def stall(child: Child, tracker: Tracker) -> Mapping[str, float]:
    """Return the seconds of the target's longest mmap(2) during a look."""
    child.ask("maps")
    tracker.look()
    return {"stall": float(child.ask("stop"))}


def slowdown(child: Child, tracker: Tracker) -> Mapping[str, float]:
    """Return the seconds in which the target writes to each page, twice."""
    times = {}
    for name in ("after a look", "after that"):
        if name == "after a look":
            tracker.look()
        begin = perf_counter()
        child.ask("write")
        times[name] = perf_counter() - begin
    return times


def pieces(connection: Connection, size: int) -> None:
    """Live with memory of which every other page was touched."""
    import ctypes  # noqa: PLC0415 - of the child
    import signal  # noqa: PLC0415

    address = mapped(size)
    for at in range(address, address + size, 2 * PAGE_SIZE):
        ctypes.memset(at, 1, 1)
    connection.send(address)
    signal.pause()


def tracking(connection: Connection, pid: int) -> None:
    """Track a process, and send how much memory it takes here after a few looks."""
    process = Process(pid)
    with Process(os.getpid()).track("mappings") as tracker:  # loads what is needed
        tracker.look()
    before = own_memory()
    tracker = process.track()
    for _ in range(5):
        tracker.look()
    connection.send(own_memory() - before)
    tracker.close()


def taken(name: str, pid: int) -> Mapping[str, float]:
    """Return the bytes that a tracker takes."""
    with ExitStack() as stack:
        return {name: float(Child(stack, tracking, pid).hello)}


def looks(trackers: list[Tracker]) -> Mapping[str, float]:
    """Return the seconds of a look at each process."""
    begin = perf_counter()
    for tracker in trackers:
        tracker.look()
    return {"looks": perf_counter() - begin}


def sleepers(stack: ExitStack) -> list[Tracker]:
    """Start processes, and track them."""
    trackers = []
    for _ in range(PROCESSES):
        process = stack.enter_context(Process(sleeper(stack)))
        trackers.append(stack.enter_context(process.track("mappings")))
    return trackers


def set_up(stack: ExitStack) -> Plan:
    """Start the targets."""
    child = Child(stack, filled, GIB)
    scattered = Child(stack, pieces, GIB)
    process = stack.enter_context(Process(child.pid))
    tracker = stack.enter_context(process.track())
    other = Child(stack, filled, GIB // 4)
    trackers = sleepers(stack)
    source = tracker.source
    return Plan(
        cases=[
            partial(look, tracker),
            partial(look_by_hand, other.pid),
            partial(stall, child, tracker),
            partial(slowdown, child, tracker),
            partial(taken, "dense", other.pid),
            partial(taken, "pieces", scattered.pid),
            partial(looks, trackers),
        ],
        rows=[
            Row(f"a look at 1 GiB, {source}", "look", "ms", scale=1e3),
            Row("smaps and clear_refs by hand", "by hand", "ms a GiB", scale=4e3),
            Row("the target's longest mmap(2) meanwhile", "stall", "ms", scale=1e3),
            Row(
                "the target's writes: right after a look vs else",
                "after a look",
                per="after that",
            ),
            Row("memory of a tracker, dense", "dense", "KiB", scale=1 / 1024),
            Row(
                "memory of a tracker, 1 GiB, every other page",
                "pieces",
                "KiB",
                scale=1 / 1024,
            ),
            Row(
                f"a look at each of {PROCESSES} processes",
                "looks",
                "µs a process",
                scale=1e6 / PROCESSES,
            ),
        ],
        rounds=9,
        notes=[
            f"this kernel's finest source is {source}; tests/vm/proofs.py has others"
        ],
    )


BENCHMARK = Benchmark("idle", "Tracking", set_up, 25, ("root",))
