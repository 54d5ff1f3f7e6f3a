"""The cost of one call: against an unchecked C extension, a loop in C, and ctypes.

    python benchmarks/calls.py [rounds]

Rounds are interleaved; printed is the median of their ratios. Needs a C
compiler, and permission to advise its own child.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pmadvise

PAGES = 2048


def build_unchecked(folder: str) -> Any:
    """Compile and import the extension that calls are measured against."""
    path = Path(folder, "unchecked.so")
    source = Path(__file__).with_name("unchecked.c")
    include = sysconfig.get_paths()["include"]
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", f"-I{include}", source, "-o", path],
        check=True,
    )
    spec = importlib.util.spec_from_file_location("unchecked", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def child() -> Iterator[tuple[int, int]]:
    """Yield the pidfd of a child, and the address of PAGES pages it has touched."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size = PAGES * pmadvise.PAGE_SIZE
    address = libc.mmap(None, ctypes.c_size_t(size), 3, 0x22, -1, ctypes.c_long(0))
    ready, touched = os.pipe()
    pid = os.fork()
    if pid == 0:
        ctypes.memset(address, 1, size)
        os.write(touched, b"x")
        while True:
            signal.pause()
    os.read(ready, 1)
    pidfd = pmadvise.pidfd_open(pid)
    try:
        yield pidfd, address
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)


def seconds_range(function: Callable[..., object], pidfd: int, address: int) -> float:
    """Return the time of 2,000 calls for one page."""
    page, cold = pmadvise.PAGE_SIZE, pmadvise.Advice.COLD
    begin = perf_counter()
    for _ in range(2000):
        function(pidfd, address, page, cold)
    return perf_counter() - begin


def seconds_vector(pidfd: int, ranges: Any) -> float:
    """Return the time of 20 calls for a vector."""
    begin = perf_counter()
    for _ in range(20):
        pmadvise.process_madvise(pidfd, ranges, pmadvise.Advice.COLD)
    return perf_counter() - begin


def import_seconds(code: str) -> float:
    """Return the time that a new interpreter takes for `code`."""
    begin = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return perf_counter() - begin


def main(rounds: int) -> None:
    class IOVec(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    libc = ctypes.CDLL(None, use_errno=True)

    def with_ctypes(pidfd: int, address: int, length: int, advice: int) -> int:
        iov = IOVec(address, length)
        advised: int = libc.syscall(
            440, pidfd, ctypes.byref(iov), ctypes.c_size_t(1), advice, 0
        )
        if advised < 0:
            raise OSError(ctypes.get_errno(), "process_madvise")
        return advised

    page = pmadvise.PAGE_SIZE
    samples: dict[str, list[float]] = {}

    def sample(name: str, ours: float, theirs: float) -> None:
        samples.setdefault(name, []).append(ours / theirs)

    with tempfile.TemporaryDirectory() as folder, child() as (pidfd, address):
        unchecked = build_unchecked(folder)
        pairs = [(address + 2 * i * page, page) for i in range(pmadvise.IOV_MAX)]
        ranges = pmadvise.Ranges(pairs)
        octets = ranges.buffer.cast("B")
        for _ in range(rounds):
            extension = seconds_range(unchecked.range, pidfd, address)
            ours = seconds_range(pmadvise.process_madvise_range, pidfd, address)
            theirs = seconds_range(with_ctypes, pidfd, address)
            sample("process_madvise_range / unchecked extension", ours, extension)
            sample("process_madvise_range / ctypes", ours, theirs)
            loop = unchecked.loop(pidfd, octets, pmadvise.Advice.COLD, 20)
            native, tuples = seconds_vector(pidfd, ranges), seconds_vector(pidfd, pairs)
            sample("1,024 ranges, a Ranges / loop in C", native, loop)
            sample("1,024 ranges, tuples / loop in C", tuples, loop)
    for name, values in samples.items():
        print(f"{name:48} {statistics.median(values):6.3f}")
    imports = [
        import_seconds("import pmadvise") - import_seconds("pass")
        for _ in range(max(rounds // 4, 5))
    ]
    print(f"{'import pmadvise':48} {1000 * statistics.median(imports):6.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
