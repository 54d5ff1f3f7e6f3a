"""A daemon that pages out the idle processes of a cgroup, or of a process tree."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable

from pmadvise import Advice, advise_each, processes, swap

INTERVAL = 10.0  # seconds without CPU time, after which a process is idle
BUDGET = 64 << 20  # bytes a round, of all processes together
SIGNALS = {signal.SIGTERM, signal.SIGINT}

CpuTimes = dict[tuple[int, float], float]  # by process ID and time of the start


def go_round(group: str, before: CpuTimes, stop: Callable[[], object]) -> CpuTimes:
    """Page out who used no CPU time since the round before; return the CPU times."""
    now, idle = CpuTimes(), []
    tree = int(group) if group.isdigit() else None
    with contextlib.ExitStack() as stack:
        for process in processes(tree=tree, cgroup=None if tree else group):
            stack.enter_context(process)
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                status = process.status()
                key = process.pid, status.started
                now[key] = status.cpu
                if before.get(key) == status.cpu:
                    idle.append(process)
        floor = swap().total // 5
        for process, result in advise_each(
            idle, Advice.PAGEOUT, budget=BUDGET, timeout=5, swap_floor=floor, stop=stop
        ):
            if isinstance(result, OSError):
                print(process.pid, result, flush=True)
            elif result.advised:
                print(process.pid, result.advised, flush=True)
    return now


def main() -> None:
    """Go round until SIGTERM or SIGINT: `reclaimer.py CGROUP|PID [INTERVAL]`."""
    group, *more = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    times = CpuTimes()
    while signal.sigtimedwait(SIGNALS, float(more[0]) if more else INTERVAL) is None:
        times = go_round(group, times, lambda: signal.sigpending() & SIGNALS)


if __name__ == "__main__":
    main()
