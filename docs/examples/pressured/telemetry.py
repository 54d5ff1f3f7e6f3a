"""What the daemon tells: metrics for Prometheus, lines for programs, its state."""

from __future__ import annotations

import json
import math
import os
import socket
import time

from prometheus_client import Counter, Gauge, Histogram

from pmadvise import swap

RATIO = Gauge("pressured_watermark_ratio", "Bytes in use, of the limit", ["cgroup"])
PROCESSES = Gauge("pressured_processes", "Processes that are watched")
BACKOFFS = Gauge("pressured_backoffs", "Processes left alone for a while")
LOOKED = Gauge("pressured_last_look_timestamp_seconds", "When it last looked at all")
SWAP_FREE = Gauge("pressured_swap_free_bytes", "Free swap")
ADVISED = Counter("pressured_advised_bytes", "Bytes advised", ["advice"])
FREED = Counter("pressured_freed_bytes", "Bytes that left the memory of processes")
REFAULTED = Counter("pressured_refaulted_bytes", "Bytes that came back from swap")
ACTS = Counter("pressured_acts", "Times it acted", ["cgroup", "trigger", "ended"])
REFUSALS = Counter("pressured_refusals", "Processes that refused", ["errno"])
EVENTS = Counter("pressured_pressure_events", "Events of the PSI trigger")
CALL = Histogram(
    "pressured_longest_call_seconds", "Longest call: the target may wait for it"
)


def log(event: str, **fields: object) -> None:
    """Print a line for programs."""
    line = {"time": round(time.time(), 3), "event": event, **fields}
    print(json.dumps(line), flush=True)


def notify(state: str) -> None:
    """Tell systemd, if it asked for that: sd_notify(3)."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)  # the receiver's queue may be full
            try:
                sock.connect(address.replace("@", "\0", 1))
                sock.sendall(state.encode())
            except OSError as error:
                log("not_notified", state=state, message=str(error))


def looked(n_known: int, n_left_alone: int) -> None:
    """Set the gauges after a look at all processes."""
    PROCESSES.set(n_known)
    BACKOFFS.set(n_left_alone)
    try:
        SWAP_FREE.set(swap().free)
    except OSError:  # /proc hides the swap: unknown is not 0
        SWAP_FREE.set(math.nan)
    LOOKED.set_to_current_time()
