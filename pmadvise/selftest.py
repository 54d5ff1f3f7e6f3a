"""Tell an operator what this host can do: ``python -m pmadvise.selftest``.

Forks a child, advises its memory, and looks at what became of it. Standard library
and pmadvise only. Exit status: 0, 1 if a check failed, 2 if the options are wrong.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import mmap
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pmadvise
from pmadvise import Advice

MIB = 1 << 20
PRESENT_LATELY = 31 * pmadvise.PAGE_SIZE
"""Pages touched last may not be on an LRU list yet, and no advice moves them."""


class Skip(Exception):
    """A check can't be made here; the message says what is missing."""


class Child:
    """A forked process that has touched `size` bytes of its own."""

    def __init__(self, size: int) -> None:
        self.size = size
        with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            self.address = _address(memory)
            to_child, command = os.pipe()
            answer, from_child = os.pipe()
            self.pid = os.fork()
            if self.pid == 0:
                os.close(command)
                self._live(memory, to_child, from_child)
        os.close(to_child)
        os.close(from_child)
        self._command, self._answer = command, answer
        self.pidfd = pmadvise.pidfd_open(self.pid)
        self.digest = self._read_digest()

    def _live(self, memory: mmap.mmap, commands: int, answers: int) -> None:
        """Touch the memory, then send its digest whenever asked, until told no more."""
        try:
            block = os.urandom(pmadvise.PAGE_SIZE)
            for offset in range(0, self.size, len(block)):
                memory[offset : offset + len(block)] = block
            while True:
                os.write(answers, hashlib.sha256(memory).digest())
                if not os.read(commands, 1):
                    break
        finally:
            os._exit(0)

    def _read_digest(self) -> bytes:
        digest = os.read(self._answer, 32)
        if len(digest) != 32:
            raise AssertionError("the child has died")
        return digest

    def check_intact(self) -> None:
        """Have the child read all its memory, and compare."""
        os.write(self._command, b"?")
        if self._read_digest() != self.digest:
            raise AssertionError("the child's memory has changed")

    def advise(self, advice: Advice) -> int:
        """Advise all the memory, in as many calls as it takes.

        WILLNEED reads no more of a file for each range than the readahead of its
        disk, 128 KiB if nobody set it (mm/readahead.c, force_page_cache_ra()).
        """
        ranges = pmadvise.Ranges([(self.address, self.size)]).split(128 << 10)
        return sum(
            pmadvise.process_madvise(self.pidfd, ranges[i : i + 1024], advice)
            for i in range(0, len(ranges), 1024)
        )

    def status(self, name: str) -> int:
        """Return a size of /proc/PID/status, in bytes."""
        with open(f"/proc/{self.pid}/status") as file:
            return _kilobytes(file, name)

    def referenced(self) -> int:
        """Return the bytes of the memory that smaps calls Referenced."""
        total, inside = 0, False
        with open(f"/proc/{self.pid}/smaps") as file:
            for line in file:
                first = line.split(None, 1)[0]
                if not first.endswith(":"):
                    start, end = (int(part, 16) for part in first.split("-"))
                    inside = start < self.address + self.size and self.address < end
                elif inside and first == "Referenced:":
                    total += int(line.split()[1]) * 1024
        return total

    def close(self) -> None:
        """End the child and reap it."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for fd in (self._command, self._answer, self.pidfd):
            os.close(fd)


@contextmanager
def child(size: int) -> Iterator[Child]:
    """Give a Child, and leave nothing of it."""
    one = Child(size)
    try:
        yield one
    finally:
        one.close()


def _kilobytes(lines: Iterator[str], name: str) -> int:
    for line in lines:
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return 0


def meminfo(name: str) -> int:
    """Return a size of /proc/meminfo, in bytes."""
    with open("/proc/meminfo") as file:
        return _kilobytes(file, name)


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"


def check_host(size: int) -> str:
    """Say what this host is."""
    host = os.uname()
    swap = f"{_mib(meminfo('SwapFree'))} of swap free" if meminfo("SwapTotal") else ""
    return (
        f"{host.sysname} {host.release} {host.machine}, "
        f"{pmadvise.PAGE_SIZE}-byte pages, {swap or 'no swap'}"
    )


def permitted(one: Child, advice: Advice) -> None:
    """Skip where this user, or this kernel, may not advise a child so."""
    try:
        pmadvise.process_madvise(one.pidfd, [], advice)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOSYS):
            raise
        raise Skip(str(error)) from None


def check_permission(size: int) -> str:
    """Ask the kernel, with an empty vector, whether a child may be advised."""
    with child(pmadvise.PAGE_SIZE) as one:
        permitted(one, Advice.COLD)
    return f"uid {os.geteuid()} may advise its child"


def check_cold(size: int) -> str:
    """See COLD take the Referenced mark away, and nothing else."""
    with child(size) as one:
        permitted(one, Advice.COLD)
        before = one.referenced()
        advised = one.advise(Advice.COLD)
        after = one.referenced()
        if advised != size or before < size or after > PRESENT_LATELY:
            raise AssertionError(
                f"{advised} of {size} bytes advised, Referenced {before} -> {after}"
            )
        one.check_intact()
    return f"Referenced {_mib(before)} -> {_mib(after)}, memory intact"


def check_pageout(size: int) -> str:
    """See PAGEOUT move anonymous memory to swap."""
    with child(size) as one:
        permitted(one, Advice.PAGEOUT)
        _needs_swap(size)
        advised = one.advise(Advice.PAGEOUT)
        swapped = one.status("VmSwap")
        if advised != size or swapped < size - PRESENT_LATELY:
            raise AssertionError(
                f"{advised} of {size} bytes advised, VmSwap is {swapped}"
            )
        one.check_intact()
    return f"VmSwap 0 -> {_mib(swapped)}, memory intact"


def check_willneed(size: int) -> str:
    """See WILLNEED read a file that the child maps into the page cache."""
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
        with mmap.mmap(file.fileno(), size) as view, child(pmadvise.PAGE_SIZE) as one:
            permitted(one, Advice.WILLNEED)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            before = _in_page_cache(view)
            if before:
                raise Skip(
                    f"{_mib(before)} of a file in {tempfile.gettempdir()} stay in "
                    "memory: set TMPDIR to a folder on a disk"
                )
            one.address, one.size = _address(view), size  # inherited over fork
            advised = one.advise(Advice.WILLNEED)
            deadline = time.monotonic() + 30
            while (after := _in_page_cache(view)) < size:
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"{advised} of {size} bytes advised, "
                        f"{after} of the file are in the page cache"
                    )
                time.sleep(0.001)
    return f"page cache 0 -> {_mib(after)} of a file"


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _in_page_cache(view: mmap.mmap) -> int:
    """Return the bytes of a mapped file that are in memory. Wraps mincore(2)."""
    size = ctypes.c_size_t(len(view))
    pages = (ctypes.c_ubyte * -(-len(view) // pmadvise.PAGE_SIZE))()
    if ctypes.CDLL(None, use_errno=True).mincore(
        ctypes.c_void_p(_address(view)), size, pages
    ):
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in pages) * pmadvise.PAGE_SIZE


def _needs_swap(size: int) -> None:
    free = meminfo("SwapFree")
    if free < 2 * size:
        raise Skip(
            f"{_mib(free)} of swap are free, and {_mib(2 * size)} are needed to see "
            "an effect: turn swap on with swapon(8), or pass a smaller --size"
        )


CHECKS: dict[str, Callable[[int], str]] = {
    "host": check_host,
    "permission": check_permission,
    "cold": check_cold,
    "pageout": check_pageout,
    "willneed": check_willneed,
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a check: verdict is "ok", "skip" or "FAIL"."""

    verdict: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict} {self.name} - {self.detail}"


def run(name: str, size: int) -> Result:
    """Make one check."""
    try:
        return Result("ok", name, CHECKS[name](size))
    except Skip as skip:
        return Result("skip", name, str(skip))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Result(
            "FAIL",
            name,
            f"{type(error).__name__}: {error} ({where.name}:{where.lineno})",
        )


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of MiB, 1 or more")
    return int(text) * MIB


def main(arguments: list[str] | None = None) -> int:
    """Run the checks and print a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m pmadvise.selftest",
        description="Tell what process_madvise(2) can do on this host.",
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=64 * MIB,
        metavar="MIB",
        help="memory of the child, in MiB (default 64)",
    )
    options = parser.parse_args(arguments)
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    for name in CHECKS:
        result = run(name, options.size)
        counts[result.verdict] += 1
        print(result, flush=True)
    print(
        f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} skipped",
        flush=True,
    )
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
