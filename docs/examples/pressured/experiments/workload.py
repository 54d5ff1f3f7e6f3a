"""The processes that the experiments watch: they idle, grow, read, serve, or wake.

    python workload.py idle MIB
    python workload.py grow MIB STEP_KIB PAUSE_MS
    python workload.py read FILE MIB_A_READ PAUSE_MS SECONDS
    python workload.py scan FILE
    python workload.py touch MIB [FILE]
    python workload.py press MIB FILE
    python workload.py store MIB recent|scattered HOT_PERCENT OTHER_PERCENT PAUSE_MS
    python workload.py interpreter

Each prints "ready" once it is set up, and a line of JSON for what it is asked to do by
a line on stdin. All end with stdin, so none outlives the program that started it.
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import mmap
import os
import random
import resource
import select
import sys
import time
from collections.abc import Callable

MIB = 1 << 20
PAGE = mmap.PAGESIZE
CHUNK = 64 << 10  # bytes, one of each page of which is read at a time
# What a small service of the standard library has loaded
MODULES = (
    *("asyncio", "ctypes", "decimal", "email.mime.text", "http.server", "json"),
    *("logging.config", "multiprocessing", "sqlite3", "ssl", "unittest"),
    *("urllib.request", "xml.dom.minidom"),
)


def memory(size: int) -> mmap.mmap:
    """Map private anonymous memory."""
    return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def block(size: int) -> bytes:
    """Return bytes that compress to about a half, as memory of programs does."""
    page = os.urandom(PAGE // 2) + bytes(PAGE // 2)
    return page * (size // PAGE)


def fill(space: mmap.mmap) -> None:
    """Write to each page."""
    step = block(MIB)
    for start in range(0, len(space), MIB):
        space[start : start + MIB] = step[: len(space) - start]


def say(**fields: object) -> None:
    """Print a line of JSON."""
    print(json.dumps(fields), flush=True)


def serve(answer: Callable[[str], object]) -> None:
    """Answer each line of stdin by a line of JSON."""
    print("ready", flush=True)
    for line in sys.stdin:
        say(answer=answer(line.strip()))


def idle(mib: str) -> None:
    """Hold memory, and do nothing."""
    space = memory(int(mib) * MIB)
    fill(space)
    serve(lambda _: len(space))


def grow(mib: str, step_kib: str, pause_ms: str) -> None:
    """Take memory step by step, at even intervals; answer with the steps' times."""
    total, step, pause = int(mib) * MIB, int(step_kib) << 10, float(pause_ms) / 1000
    source, space = block(step), memory(total)

    def steps(_: str) -> list[int]:
        times = []
        due = time.perf_counter()
        for start in range(0, total - step + 1, step):
            before = time.perf_counter_ns()
            space[start : start + step] = source
            times.append((time.perf_counter_ns() - before) // 1000)
            due = max(due + pause, time.perf_counter())  # no haste after a delay
            if pause:
                time.sleep(max(due - time.perf_counter(), 0))
        return times

    serve(steps)


def read(path: str, pause_ms: str, seconds: str) -> None:
    """Read 64 KiB of a mapped file at even intervals; answer with the microseconds."""
    pause, n = float(pause_ms) / 1000, int(float(seconds) * 1000 / float(pause_ms))
    with open(path, "rb") as file:
        space = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    space.madvise(mmap.MADV_WILLNEED)
    sum(space[::PAGE])
    space.madvise(mmap.MADV_RANDOM)
    chunks = [random.randrange(len(space) // CHUNK) * CHUNK for _ in range(n)]

    def read_one(i: int) -> None:
        sum(space[chunks[i] : chunks[i] + CHUNK : PAGE])

    serve(lambda _: timed(read_one, n, pause, float(seconds)))


def scan(path: str) -> None:
    """Read each page of a mapped file once a second."""
    with open(path, "rb") as file:
        space = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    sum(space[::PAGE])
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 1)[0]:
        sum(space[::PAGE])


def timed(
    request: Callable[[int], object], most: int, pause: float, seconds: float
) -> dict[str, object]:
    """Make requests at even intervals, and return the microseconds of each."""
    times = array.array("Q", bytes(8 * most))
    faults, done = major_faults(), 0
    due = time.perf_counter()
    end = due + seconds
    gc.disable()
    for i in range(most):
        before = time.perf_counter_ns()
        request(i)
        times[i] = time.perf_counter_ns() - before
        done = i + 1
        now = time.perf_counter()
        if now > end:
            break
        due = max(due + pause, now)
        time.sleep(due - now)
    gc.enable()
    return {
        "us": [one / 1000 for one in times[:done]],
        "major_faults": major_faults() - faults,
    }


def major_faults() -> int:
    """Return how many faults of this process have waited for a disk or for swap."""
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[9])


def touch(mib: str, path: str = "") -> None:
    """Hold memory, or a mapped file; answer how long reading each page takes."""
    if path:
        with open(path, "rb") as file:
            space = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        sum(space[::PAGE])
    else:
        space = memory(int(mib) * MIB)
        space.madvise(mmap.MADV_NOHUGEPAGE)
        fill(space)
    offsets = list(range(0, len(space), PAGE))

    def reads(order: str) -> dict[str, float]:
        if order == "random":
            random.shuffle(offsets)
        before, usage = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        for offset in offsets:
            space[offset]
        after = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "seconds": time.perf_counter() - before,
            "minor": after.ru_minflt - usage.ru_minflt,
            "major": after.ru_majflt - usage.ru_majflt,
        }

    serve(reads)


def press(mib: str, path: str) -> None:
    """Write memory, and read a file, over and over for a time; answer how often."""

    def rounds(seconds: str) -> int:
        space, n = memory(int(mib) * MIB), 0
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            fill(space)
            with open(path, "rb", buffering=0) as file:
                while file.read(MIB) and time.monotonic() < end:
                    n += 1
        space.close()
        return n

    serve(rounds)


VALUE, ARENA = 64 << 10, 16 * MIB


def store(mib: str, layout: str, hot: str, other: str, pause_ms: str) -> None:
    """Hold values, most requests for few of them; answer with the microseconds."""
    arenas = []
    for number in range(-(-int(mib) * MIB // ARENA)):
        arena = memory(ARENA)
        if number % 2:  # another flag, so that neighbours are mappings of their own
            arena.madvise(mmap.MADV_DONTFORK)
        arena.madvise(mmap.MADV_NOHUGEPAGE)
        fill(arena)
        arenas.append(arena)
    values = [(arena, at) for arena in arenas for at in range(0, ARENA, VALUE)]
    if layout == "scattered":
        random.Random(1).shuffle(values)
    n_hot = round(len(values) * float(hot) / 100)
    others, hots = values[:-n_hot], values[-n_hot:]
    share, pause = float(other) / 100, float(pause_ms) / 1000

    def requests(seconds: str) -> dict[str, object]:
        n = int(float(seconds) / pause)
        wanted = [
            random.choice(others if random.random() < share else hots) for _ in range(n)
        ]

        def request(i: int) -> None:
            arena, at = wanted[i]
            sum(arena[at : at + VALUE : PAGE])

        return timed(request, n, pause, float(seconds))

    serve(requests)


def interpreter() -> None:
    """Be a Python process that has loaded what a service does; wake when asked to."""
    for name in MODULES:
        importlib.import_module(name)

    def wake(_: str) -> float:
        before = time.perf_counter()
        gc.collect()  # looks at each object
        return time.perf_counter() - before

    serve(wake)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
