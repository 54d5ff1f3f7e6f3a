"""One call for 1 to 1,024 ranges, in each form that ranges come in."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

from benchmarks import peers
from benchmarks.children import Child, filled
from benchmarks.harness import Benchmark, Bound, Case, Plan, Plot, Row, timed
from pmadvise import IOV_MAX, PAGE_SIZE, Advice, Ranges, pidfd_open, process_madvise

SIZES = (1, 4, 16, 64, 256, IOV_MAX)
FORMS = {
    "C": "a loop in C",
    "Ranges": "a Ranges",
    "buffer": "Ranges.from_buffer()",
    "tuples": "tuples",
    "ctypes": "tuples, ctypes",
}
CALLS = 256
"""Ranges that are advised in a row, in four calls or more, as in calls.py."""


def in_c(
    loop: Callable[..., float], name: str, pidfd: int, ranges: bytes, times: int
) -> Mapping[str, float]:
    """Return the seconds of one call, of a loop in C."""
    return {name: loop(pidfd, ranges, Advice.COLD, times) / times}


def from_buffer(pidfd: int, numbers: array[int]) -> None:
    """Advise the ranges of an array of numbers."""
    process_madvise(pidfd, Ranges.from_buffer(numbers), Advice.COLD)


def set_up(stack: ExitStack) -> Plan:
    """Fork a child whose every second page is advised."""
    loop = peers.unchecked(stack).loop
    child = Child(stack, filled, 2 * IOV_MAX * PAGE_SIZE)
    pidfd = peers.closing(stack, pidfd_open(child.pid))
    every = [(child.hello + 2 * i * PAGE_SIZE, PAGE_SIZE) for i in range(IOV_MAX)]
    cases: list[Case] = []
    for n in SIZES:
        pairs, times = every[:n], max(CALLS // n, 4)
        packed, cold = peers.packed(pairs), Advice.COLD
        work: dict[str, Callable[[], object]] = {
            "Ranges": partial(process_madvise, pidfd, Ranges(pairs), cold),
            "buffer": partial(from_buffer, pidfd, array("Q", packed)),
            "tuples": partial(process_madvise, pidfd, pairs, cold),
            "ctypes": partial(peers.vector_with_ctypes, pidfd, pairs, cold),
        }
        cases.append(partial(in_c, loop, f"C {n}", pidfd, packed, times))
        cases += [timed(f"{form} {n}", call, times) for form, call in work.items()]
    most = IOV_MAX
    return Plan(
        cases=cases,
        rows=[
            *(
                Row(
                    f"{most:,} ranges, {label}",
                    f"{form} {most}",
                    "µs",
                    scale=1e6,
                )
                for form, label in FORMS.items()
            ),
            Row(
                f"{most:,} ranges as a Ranges: pmadvise vs C",
                f"Ranges {most}",
                per=f"C {most}",
                bound=Bound(1.05),
            ),
            Row(
                f"{most:,} ranges from a buffer: pmadvise vs C",
                f"buffer {most}",
                per=f"C {most}",
            ),
            Row(
                f"{most:,} ranges as tuples: pmadvise vs ctypes",
                f"tuples {most}",
                per=f"ctypes {most}",
            ),
            Row(
                f"overhead above C for {most:,} tuples: pmadvise vs ctypes",
                f"tuples {most}",
                per=f"ctypes {most}",
                less=f"C {most}",
                bound=Bound(0.40),
            ),
        ],
        rounds=1000,
        plot=Plot(
            "ranges in a call",
            "µs a call",
            {
                label: [(n, f"{form} {n}") for n in SIZES]
                for form, label in FORMS.items()
            },
            scale=1e6,
        ),
    )


BENCHMARK = Benchmark(
    "vector", "One call, 1 to 1,024 ranges", set_up, 15, ("root", "compiler")
)
