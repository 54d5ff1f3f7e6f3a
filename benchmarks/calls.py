"""One call for one page: what the checks and the errors that help cost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from time import perf_counter

from benchmarks import peers
from benchmarks.children import Child, filled
from benchmarks.harness import Benchmark, Bound, Case, Plan, Plot, Row
from pmadvise import PAGE_SIZE, Advice, pidfd_open, process_madvise_range

CALLS = 200
"""In a row: less than a slice of time, so that most rounds are not preempted."""


def calling(name: str, function: peers.OneRange, pidfd: int, address: int) -> Case:
    """Return a case: the seconds of one call, of many in a row."""

    def case() -> dict[str, float]:
        advice, length = Advice.COLD, PAGE_SIZE
        begin = perf_counter()
        for _ in repeat(None, CALLS):
            function(pidfd, address, length, advice)
        return {name: (perf_counter() - begin) / CALLS}

    case.__code__ = case.__code__.replace()  # the interpreter adapts it to `function`
    return case


def looking(name: str, function: peers.OneRange, pidfd: int, address: int) -> Case:
    """Return the same for a function whose result has to be looked at."""

    def case() -> dict[str, float]:
        advice, length = Advice.COLD, PAGE_SIZE
        begin = perf_counter()
        for _ in repeat(None, CALLS):
            if function(pidfd, address, length, advice) < 0:
                raise OSError("process_madvise")
        return {name: (perf_counter() - begin) / CALLS}

    return case


def in_c(loop: Callable[..., float], pidfd: int, ranges: bytes) -> dict[str, float]:
    """Return the seconds of one call, of many in a loop in C."""
    return {"C": loop(pidfd, ranges, Advice.COLD, CALLS) / CALLS}


def set_up(stack: ExitStack) -> Plan:
    """Fork a child, and compile what is measured against."""
    extension = peers.unchecked(stack)
    child = Child(stack, filled, PAGE_SIZE)
    pidfd, address = peers.closing(stack, pidfd_open(child.pid)), child.hello
    ranges = peers.packed([(address, PAGE_SIZE)])
    names = {
        "C": "a loop in C",
        "extension": "a C extension by hand",
        "cffi": "bare cffi",
        "pmadvise": "process_madvise_range()",
        "ctypes": "ctypes",
    }
    return Plan(
        cases=[
            partial(in_c, extension.loop, pidfd, ranges),
            calling("extension", extension.range, pidfd, address),
            looking("cffi", peers.bare_cffi(stack), pidfd, address),
            calling("pmadvise", process_madvise_range, pidfd, address),
            calling("ctypes", peers.range_with_ctypes, pidfd, address),
        ],
        rows=[
            *(Row(label, name, "µs", scale=1e6) for name, label in names.items()),
            Row(
                "time: pmadvise vs bare cffi", "pmadvise", per="cffi", bound=Bound(1.06)
            ),
            Row(
                "time: pmadvise vs ctypes", "pmadvise", per="ctypes", bound=Bound(0.80)
            ),
            Row("time: pmadvise vs a C extension", "pmadvise", per="extension"),
        ],
        rounds=4000,
        plot=Plot(
            "",
            "µs a call",
            {"one page, COLD": [(label, name) for name, label in names.items()]},
            scale=1e6,
            log=False,
        ),
    )


BENCHMARK = Benchmark("call", "One call, one page", set_up, 15, ("root", "compiler"))
