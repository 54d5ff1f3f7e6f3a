"""A program of trio that prints a line whenever memory is short."""

from __future__ import annotations

import sys

import trio

from pmadvise import Pressure

HOST = "/proc/pressure/memory"


async def watch(pressure: Pressure) -> None:
    """Print a line an event, until the cgroup is removed."""
    print("ready", flush=True)
    while True:
        # True: it fired while nobody waited; it raises if the cgroup has been removed.
        if not pressure.wait(0):
            await trio.lowlevel.wait_readable(pressure)
            pressure.wait(0)
        print("memory is short", flush=True)


if __name__ == "__main__":
    with Pressure(sys.argv[1] if sys.argv[1:] else HOST) as trigger:
        try:
            trio.run(watch, trigger)
        except OSError as error:
            sys.exit(str(error))
