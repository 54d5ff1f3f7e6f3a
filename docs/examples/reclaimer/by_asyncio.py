"""The daemon of reclaimer.py in asyncio: a thread does what would block the loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

from reclaimer import INTERVAL, SIGNALS, CpuTimes, go_round


async def rounds(group: str, interval: float, ended: threading.Event) -> None:
    """Go round at each interval; other tasks of the loop run meanwhile."""
    times = CpuTimes()
    while True:
        await asyncio.sleep(interval)
        times = await asyncio.to_thread(go_round, group, times, ended.is_set)


async def main() -> None:
    """Go round until SIGTERM or SIGINT: `by_asyncio.py CGROUP|PID [INTERVAL]`."""
    group, *more = sys.argv[1:]
    ended = threading.Event()
    task = asyncio.create_task(
        rounds(group, float(more[0]) if more else INTERVAL, ended)
    )

    def end() -> None:
        ended.set()  # a round in the thread ends before its next system call
        task.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(main())
