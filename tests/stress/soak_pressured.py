"""The daemon of docs/examples/pressured over many processes, for as long as asked.

    python tests/stress/soak_pressured.py --seconds 600 --processes 200

As root, with swap. The processes sleep, work, wake, fork, execute another program, give
themselves other names, end and come back; then all rest, and the daemon's CPU time is
taken. Prints a line of JSON, and exits with 1 if anything grew, failed, or cost more
than 1.5 % of a CPU at rest.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parents[1]))

from helpers import proc
from helpers.cgroups import Cgroup, memory_cgroup
from helpers.daemon import Daemon
from helpers.targets import MIB

# Fills memory, then reads a line for each act: r reads it, w works, e executes itself,
# f forks a child that shares it, and ends the one before, l lies about its name.
_PROGRAM = """
import os, signal, sys, threading, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = 0
if len(sys.argv) > 2:
    sys.stdin.readline()  # until it is in its cgroup
area = bytearray(b"pmadvise" * (int(sys.argv[1]) // 8))
def work():  # some percent of a CPU, without the memory
    while True:
        end = time.monotonic() + 0.004
        while time.monotonic() < end:
            pass
        time.sleep(0.096)
if "BUSY" in os.environ:
    threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    if line == "r\\n":
        assert area == b"pmadvise" * (len(area) // 8), "its memory was changed"
    elif line == "w\\n":
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
    elif line == "f\\n":
        if child:
            os.kill(child, signal.SIGKILL)
        child = os.fork()
        if not child:
            sys.stdin.close()
            signal.pause()
    elif line == "l\\n":
        with open("/proc/self/comm", "wb") as comm:
            comm.write(os.urandom(6) + b'\\x1b[2J"}) S')
    elif line == "e\\n":
        if child:
            os.kill(child, signal.SIGKILL)
        os.execv(sys.executable, sys.orig_argv[:4])
    print("ready", flush=True)
"""


class Worker:
    """A process of the soak."""

    def __init__(self, cgroup: Cgroup, size: int, *, is_busy: bool = False) -> None:
        self.is_busy = is_busy
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", _PROGRAM, str(size), "wait"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "BUSY": "1"} if is_busy else None,
            start_new_session=True,
        )
        cgroup.write("cgroup.procs", str(self.process.pid))
        self.tell("go")
        self.answered()

    def tell(self, act: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(act + "\n")
        self.process.stdin.flush()

    def answered(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line != "ready\n":
            raise RuntimeError(f"process {self.process.pid}: {line!r}, not ready")

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


class Soak:
    """The workers, and how often each thing was done to them."""

    def __init__(self, cgroup: Cgroup, options: argparse.Namespace) -> None:
        self.random, self.cgroup = random.Random(options.seed), cgroup
        self.size = options.size * MIB
        self.done = dict.fromkeys(
            ["read", "work", "exec", "fork", "lie", "replaced"], 0
        )
        self.workers = [
            Worker(cgroup, self.size, is_busy=number < options.busy)
            for number in range(options.processes)
        ]

    def step(self) -> None:
        """Do something to one of them."""
        number = self.random.randrange(len(self.workers))
        worker = self.workers[number]
        act = self.random.choice([*self.done])
        self.done[act] += 1
        if act == "replaced":
            worker.close()
            self.workers[number] = Worker(
                self.cgroup, self.size, is_busy=worker.is_busy
            )
        else:
            worker.tell(act[0])
            worker.answered()

    def close(self) -> None:
        """Read all memory once more, and end all."""
        for worker in self.workers:
            worker.tell("r")
            worker.answered()
            worker.close()


def cpu_share(daemon: Daemon, seconds: float) -> float:
    """Return the daemon's share of a CPU over the next seconds."""
    before = proc.cpu_seconds(daemon.process.pid)
    time.sleep(seconds)
    return (proc.cpu_seconds(daemon.process.pid) - before) / seconds


def measured(daemon: Daemon) -> dict[str, float]:
    """Return what must not grow."""
    return {
        "rss": proc.status(daemon.process.pid, "VmRSS"),
        "descriptors": daemon.n_descriptors(),
        "watched": daemon.metric("pressured_processes"),
        "threads": proc.status(daemon.process.pid, "Threads"),
        "trackers": daemon.metric("pressured_trackers"),
    }


def soak(
    options: argparse.Namespace, report: Callable[[str], None]
) -> dict[str, object]:
    """Run it all; return the figures."""
    size = options.size * MIB
    limit = options.processes * (size + 4 * MIB)
    rest = options.seconds / 4
    with memory_cgroup(limit, swap=True) as cgroup, tempfile.TemporaryDirectory() as at:
        work = Soak(cgroup, options)
        watermarks = ("--high", options.low + 10, "--low", options.low)
        more = ("--swap-floor", 0, "--idle-ranges", options.idle_ranges)
        daemon = Daemon(cgroup.path, Path(at), *watermarks, *more)
        try:
            first, end = None, time.monotonic() + options.seconds - rest
            while (left := end - time.monotonic()) > 0:
                work.step()
                time.sleep(0.02)
                if first is None and left < (options.seconds - rest) * 0.75:
                    first = measured(daemon)
                report(f"{left:.0f} s left: {work.done}")
            time.sleep(5)  # what the last act set off
            last = measured(daemon)
            share = cpu_share(daemon, rest)
            figures = {
                "processes": options.processes,
                "seconds": options.seconds,
                "acts": work.done,
                "relieved": len(daemon.events("relieved")),
                "advised": sum(line["advised"] for line in daemon.events("relieved")),
                "idle_ranges": daemon.metric("pressured_idle_range_bytes_total"),
                "woke": len(daemon.events("woke")),
                "errors": daemon.events("error") + daemon.events("refused"),
                "warm": first or last,
                "end": last,
                "cpu_at_rest": round(share, 4),
                "status": daemon.terminate(),
            }
        finally:
            work.close()
            daemon.close()
    return figures


def wrong(figures: dict[str, object]) -> list[str]:
    """Return what is wrong with the figures."""
    warm, end = figures["warm"], figures["end"]
    assert isinstance(warm, dict)
    assert isinstance(end, dict)
    checks = {
        "errors were logged": bool(figures["errors"]),
        "it did not end with status 0": figures["status"] != 0,
        "its memory grew": end["rss"] > warm["rss"] * 1.1 + MIB,
        "it left descriptors": end["descriptors"] > 2 * end["watched"] + 32,
        "its threads grew": end["threads"] > warm["threads"] + 1,
        "it cost over 1.5 % of a CPU at rest": float(str(figures["cpu_at_rest"]))
        > 0.015,
        "it paged nothing out": not figures["relieved"],
    }
    return [text for text, is_wrong in checks.items() if is_wrong]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--size", type=int, default=4, help="MiB of each")
    parser.add_argument("--low", type=float, default=60, help="percent of the limit")
    parser.add_argument("--busy", type=int, default=0, help="of them, all the time")
    parser.add_argument("--idle-ranges", default="none", help="that of the daemon")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()

    def report(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text}\033[K")

    figures = soak(options, report)
    print(json.dumps({"seed": options.seed, **figures}))
    if found := wrong(figures):
        sys.exit("; ".join(found))


if __name__ == "__main__":
    main()
