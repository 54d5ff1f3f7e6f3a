"""What a hold costs: median and p99 from before the block to behind it.

    python benchmarks/hold.py [--holds 1000] [--threads 3]

The freezer needs root and a cgroup hierarchy that can freeze; without, it says why.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from pmadvise import Process
from pmadvise.hold import METHODS

TARGET = """
import sys, threading, time
threading.stack_size(1 << 16)
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
while True:
    time.sleep(0.001)
"""


def freezer_mount() -> Path | None:
    """Return where cgroup v2, or the freezer of v1, is mounted."""
    for wanted in ("cgroup2", "freezer"):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            if wanted in (kind, *options.split(",")):
                return Path(left.split()[4])
    return None


def measure(process: Process, method: str, holds: int) -> list[float]:
    """Return the seconds of each of `holds` holds."""
    seconds = []
    for _ in range(holds):
        begin = perf_counter()
        with process.hold(method, timeout=30):
            pass
        seconds.append(perf_counter() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="What a hold costs.")
    parser.add_argument("--holds", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=3)
    options = parser.parse_args()

    mount = freezer_mount()
    cgroup = mount / f"pmadvise-bench-{os.getpid()}" if mount else None
    target = subprocess.Popen(
        [sys.executable, "-c", TARGET, str(options.threads)], stdout=subprocess.PIPE
    )
    assert target.stdout is not None
    target.stdout.readline()
    process = Process(target.pid)
    try:
        if cgroup and os.access(cgroup.parent, os.W_OK):
            cgroup.mkdir()
            (cgroup / "cgroup.procs").write_text(str(target.pid))
        print(f"{options.holds} holds of {options.threads} threads, microseconds")
        print(f"{'method':10}{'median':>10}{'p99':>10}")
        for method in METHODS:
            try:
                seconds = measure(process, method, options.holds)
            except PermissionError as error:
                print(f"{method:10}{error.strerror}")
                continue
            median = 1e6 * statistics.median(seconds)
            p99 = 1e6 * statistics.quantiles(seconds, n=100)[98]
            print(f"{method:10}{median:10.0f}{p99:10.0f}")
    finally:
        target.kill()
        target.wait()
        process.close()
        if cgroup and cgroup.exists():
            cgroup.rmdir()


if __name__ == "__main__":
    main()
