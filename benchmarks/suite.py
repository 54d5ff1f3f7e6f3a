"""All benchmarks, in the order in which they run."""

from __future__ import annotations

from benchmarks import (
    calls,
    hold,
    idle,
    imports,
    reservations,
    snapshot,
    stall,
    sweep,
    throughput,
    vectors,
    whole_process,
)

SUITE = (
    calls.BENCHMARK,
    vectors.BENCHMARK,
    whole_process.BENCHMARK,
    throughput.BENCHMARK,
    stall.BENCHMARK,
    hold.BENCHMARK,
    imports.BENCHMARK,
    snapshot.BENCHMARK,
    sweep.BENCHMARK,
    idle.BENCHMARK,
    reservations.BENCHMARK,
)
