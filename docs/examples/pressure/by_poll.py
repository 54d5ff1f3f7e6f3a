"""A program of poll(2) that prints a line whenever memory is short."""

from __future__ import annotations

import select
import sys

from pmadvise import Pressure

HOST = "/proc/pressure/memory"


def watch(pressure: Pressure) -> None:
    """Print a line an event, until the cgroup is removed."""
    poll = select.poll()
    poll.register(pressure, select.POLLIN)  # beside other descriptors
    print("ready", flush=True)
    while True:
        for _ in poll.poll():
            pressure.wait(0)  # raises if the cgroup has been removed
            print("memory is short", flush=True)


if __name__ == "__main__":
    with Pressure(sys.argv[1] if sys.argv[1:] else HOST) as trigger:
        try:
            watch(trigger)
        except OSError as error:
            sys.exit(str(error))
