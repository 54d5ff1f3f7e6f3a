"""How long paging out stalls a target that calls mmap, and what max_stall costs.

    python benchmarks/stall.py [rounds] [MiB]

Pages out a child (1,024 MiB) with one call of the kernel's own size and with
max_stall=0.010, in turn, while the child calls mmap(2) in a loop and while it rests.
Prints the medians of the worst stalls, of the longest calls and of the total times.
Needs that much free swap, best on zram, and permission to advise its own child.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import signal
import statistics
import sys
from collections.abc import Callable
from time import perf_counter

import pmadvise

MIB = 1 << 20


class Child:
    """A forked process with memory, that calls mmap while it is asked to."""

    def __init__(self, size: int) -> None:
        self.size = size
        commands, self._command = os.pipe()
        self._answer, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._command)
            try:
                self._live(commands, answers)
            finally:
                os._exit(1)
        os.close(commands)
        os.close(answers)
        self.digest = os.read(self._answer, 32)
        self.address = int(os.read(self._answer, 32))

    def _live(self, commands: int, answers: int) -> None:
        memory = mmap.mmap(-1, self.size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block = os.urandom(512) + bytes(512)
        page = block * (pmadvise.PAGE_SIZE // len(block))
        for i in range(0, self.size, len(page)):
            memory[i : i + len(page)] = page
            memory[i : i + 8] = i.to_bytes(8, "little")
        os.write(answers, hashlib.sha256(memory).digest())
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        os.write(answers, b"%-32d" % address)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        area = (ctypes.c_void_p, ctypes.c_size_t)
        libc.munmap.argtypes = area
        libc.mmap.argtypes = (
            *area,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        )
        while command := os.read(commands, 1):
            if command == b"?":
                os.write(answers, hashlib.sha256(memory).digest())
                continue
            os.set_blocking(commands, False)
            worst = 0.0
            os.write(answers, b"r" * 32)
            while True:  # until the next command
                begin = perf_counter()
                libc.munmap(libc.mmap(None, 4096, 3, 0x22, -1, 0), 4096)
                worst = max(worst, perf_counter() - begin)
                try:
                    os.read(commands, 1)
                    break
                except BlockingIOError:
                    continue
            os.set_blocking(commands, True)
            os.write(answers, b"%-32d" % int(worst * 1e9))

    def ask(self, command: bytes) -> bytes:
        """Send a command, return the answer."""
        os.write(self._command, command)
        return os.read(self._answer, 32)


def page_out(child: Child, busy: bool, max_stall: float | None) -> list[float]:
    """Return total time, longest call and worst stall, in seconds."""
    ranges = [(child.address, child.size)]
    stall = 0.0
    with pmadvise.Process(child.pid) as process:
        if busy:
            child.ask(b"b")
        begin = perf_counter()
        report = process.pageout(ranges, max_stall=max_stall)
        total = perf_counter() - begin
        if busy:
            stall = int(child.ask(b"e")) / 1e9
        assert report.advised == child.size, report
        swapped = process.swapped(pmadvise.Ranges(ranges)).total
        assert swapped > 0.99 * child.size, f"{swapped} bytes in swap"
    assert child.ask(b"?") == child.digest, "the child's memory has changed"
    return [total, report.longest_call, stall]


def main(rounds: int, size: int) -> None:
    """Run the rounds and print the medians."""
    samples: dict[tuple[bool, float | None], list[list[float]]] = {}
    child = Child(size)
    try:
        for _ in range(rounds):
            for busy in (True, False):
                for max_stall in (None, 0.010):
                    sample = page_out(child, busy, max_stall)
                    samples.setdefault((busy, max_stall), []).append(sample)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
    median: Callable[[list[float]], float] = statistics.median
    for busy in (True, False):
        one, bounded = samples[busy, None], samples[busy, 0.010]
        print("target", "calls mmap" if busy else "rests")
        for name, values in (("one call", one), ("max_stall=0.010", bounded)):
            total, call, stall = (
                1000 * median([v[i] for v in values]) for i in range(3)
            )
            print(
                f"  {name:16} {total:7.0f} ms, longest call {call:8.2f} ms"
                + (f", worst stall {stall:8.2f} ms" if busy else "")
            )
        ratios = [b[0] / a[0] for a, b in zip(one, bounded, strict=True)]
        print(f"  time {median(ratios):.2f} of one call", end="")
        if busy:
            stalls = [a[2] / b[2] for a, b in zip(one, bounded, strict=True)]
            print(f", worst stall {median(stalls):.0f} times shorter", end="")
        print()


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 7,
        (int(sys.argv[2]) if len(sys.argv) > 2 else 1024) * MIB,
    )
