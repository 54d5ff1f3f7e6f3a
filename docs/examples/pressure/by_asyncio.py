"""A program of asyncio that prints a line whenever memory is short."""

from __future__ import annotations

import asyncio
import sys

from pmadvise import Pressure

HOST = "/proc/pressure/memory"


async def watch(pressure: Pressure) -> None:
    """Print a line an event, until the cgroup is removed."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()

    def fired() -> None:
        try:
            pressure.wait(0)  # raises if the cgroup has been removed
        except OSError as error:
            gone.set_exception(error)
        else:
            print("memory is short", flush=True)

    loop.add_reader(pressure, fired)
    print("ready", flush=True)
    try:
        await gone
    finally:
        loop.remove_reader(pressure)


if __name__ == "__main__":
    with Pressure(sys.argv[1] if sys.argv[1:] else HOST) as trigger:
        try:
            asyncio.run(watch(trigger))
        except OSError as error:
            sys.exit(str(error))
