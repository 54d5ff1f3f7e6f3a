"""From a pid to a report on 60,000 VMAs: against a C program, and psutil with ctypes.

    python benchmarks/whole_process.py [rounds]

Rounds are interleaved; printed is the median of their ratios. Needs a C
compiler, psutil (the dependency group "bench"), permission to advise its own child, and
vm.max_map_count above 60,000.
"""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import psutil

import pmadvise

VMAS = 60_000


@contextmanager
def child() -> Iterator[int]:
    """Yield the pid of a child with VMAS mappings, a page touched in each."""
    page = pmadvise.PAGE_SIZE
    ready, touched = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        size = ctypes.c_size_t(VMAS * page)
        area = libc.mmap(None, size, 3, 0x22, -1, ctypes.c_long(0))
        for i in range(VMAS):
            address = ctypes.c_void_p(area + i * page)
            ctypes.memset(address, 1, 1)
            if i % 2:  # another protection, so that neighbours do not merge
                libc.mprotect(address, ctypes.c_size_t(page), 1)
        os.write(touched, b"x")
        while True:
            signal.pause()
    os.read(ready, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def with_pmadvise(pid: int) -> float:
    """Advise all of it as a user does."""
    begin = perf_counter()
    with pmadvise.Process(pid) as process:
        report = process.cold()
    seconds = perf_counter() - begin
    assert report.advised == report.requested > VMAS * pmadvise.PAGE_SIZE, report
    return seconds


def with_psutil(pid: int) -> float:
    """Advise all of it as people do today."""

    class IOVec(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    libc = ctypes.CDLL(None, use_errno=True)
    begin = perf_counter()
    pidfd = os.pidfd_open(pid)
    chosen = []
    for one in psutil.Process(pid).memory_maps(grouped=False):
        anonymous = one.path in ("[anon]", "[heap]", "[stack]")
        if anonymous and one.perms.endswith("p"):
            start, end = (int(part, 16) for part in one.addr.split("-"))
            chosen.append((start, end - start))
    for i in range(0, len(chosen), 1024):
        part = chosen[i : i + 1024]
        vector = (IOVec * len(part))(*(IOVec(*pair) for pair in part))
        n = ctypes.c_size_t(len(part))
        libc.syscall(440, pidfd, vector, n, int(pmadvise.Advice.COLD), 0)
    os.close(pidfd)
    return perf_counter() - begin


def main(rounds: int) -> None:
    """Run the rounds and print the medians."""
    against_c, against_psutil, milliseconds = [], [], []
    with tempfile.TemporaryDirectory() as folder, child() as pid:
        program = Path(folder, "advise_all")
        source = Path(__file__).with_name("advise_all.c")
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        for _ in range(rounds):
            output = subprocess.check_output([program, str(pid), "20"], text=True)
            in_c = float(output.split()[0])
            ours = with_pmadvise(pid)
            against_c.append(ours / in_c)
            against_psutil.append(with_psutil(pid) / ours)
            milliseconds.append(1000 * ours)
    print(f"Process(pid).cold(), {VMAS} VMAs: {statistics.median(milliseconds):.1f} ms")
    print(f"against a C program: {statistics.median(against_c):.3f}")
    print(f"psutil.memory_maps with ctypes: {statistics.median(against_psutil):.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
