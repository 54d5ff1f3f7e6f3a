"""What the checks share: permission, patience, swap, files, cgroups."""

from __future__ import annotations

import errno
import functools
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pmadvise
from pmadvise import PAGE_SIZE, Advice, Report
from pmadvise.selftest.child import Child
from pmadvise.selftest.cleanup import register, signals_blocked, unregister
from pmadvise.selftest.libc import LRU_BATCH, in_core, libc, map_memory
from pmadvise.selftest.requirements import MIB, Skip, mib

TOLERANCE = LRU_BATCH // 2
"""Bytes that may escape an advice: pages that a CPU has not yet put on a list."""
SMALL = max(4 * MIB, 4 * LRU_BATCH)
"""Bytes for a check whose point is not size."""
_TRIES = 20
_IDLE = 3.0
"""Seconds without a page after which nothing more is read from a disk."""


def require_permission(child: Child, advice: Advice = Advice.COLD) -> None:
    """Skip where this user, or this kernel, may not advise a child so."""
    target = pmadvise.support(child.process).target
    if target is None:
        raise AssertionError("support() returns nothing about a target")
    answer = target.advice[advice]
    try:
        child.process.check(advice)
    except OSError as error:
        if answer or error.errno != answer.errno or str(answer) not in str(error):
            raise AssertionError(
                f"support() answers {answer}, and check() raises {error}"
            ) from error
        raise Skip(str(answer)) from None
    if not answer:
        raise AssertionError(f"support() answers {answer}, and check() raises nothing")


def require_whole(report: Report, size: int) -> None:
    """Raise unless all was advised."""
    if (report.advised, report.skipped, report.ended) != (size, (), "complete"):
        raise AssertionError(f"of {size} bytes not all were advised: {report}")


def require_intact(child: Child, address: int, size: int) -> None:
    """Raise unless the child finds its memory as it left it."""
    if child.ask("intact", address, size) is not True:
        raise AssertionError("the child's memory has changed")


def require_raises(
    case: str, error: type[Exception], number: int, act: Callable[[], object]
) -> None:
    """Raise unless `act` raises that error.

    Args:
        case: For the message.
        error: Its type.
        number: Its errno; 0 where it has none.
        act: What to call.
    """
    try:
        found = act()
    except error as raised:
        if number and getattr(raised, "errno", None) != number:
            raise AssertionError(f"{case}: {raised!r}") from raised
        if not str(raised):
            raise AssertionError(f"{case}: {raised!r} has no message") from raised
        return
    raise AssertionError(f"{case}: nothing is raised, {found!r} is returned")


def retry_until(
    act: Callable[[], object], look: Callable[[], bool], tries: int = _TRIES
) -> bool:
    """Act until the effect is seen: pages that are busy now escape an advice."""
    for attempt in range(tries):
        act()
        if look():
            return True
        time.sleep(0.001 * attempt)
    return False


def reaches(goal: int, look: Callable[[], int]) -> bool:
    """Wait until a number is reached, as long as it grows: a read in the background."""
    seen, since = look(), time.monotonic()
    while seen < goal:
        time.sleep(0.001)
        now = look()
        if now > seen:
            since = time.monotonic()
        elif time.monotonic() > since + _IDLE:
            return False
        seen = now
    return True


def size_for_swap(size: int) -> int:
    """Return how much may be swapped: all, or half of what is free.

    Raises:
        Skip: Too little is free, or allowed.
    """
    found = pmadvise.support()
    half = found.swap_free // 2
    if found.swap_allowed is not None and found.swap_allowed // 2 < half:
        half = found.swap_allowed // 2
        if half < SMALL:
            raise Skip(
                f"this cgroup may swap {mib(found.swap_allowed)} more, and "
                f"{mib(2 * SMALL)} are needed: raise its memory.swap.max (Kubernetes: "
                "memorySwap.swapBehavior: LimitedSwap)"
            )
    if half < SMALL:
        raise Skip(
            f"{mib(found.swap_free)} of swap are free, and {mib(2 * SMALL)} are needed "
            "to see an effect: turn swap on with swapon(8), a file or zram"
        )
    return min(size, half) & -PAGE_SIZE


@contextmanager
def file_on_disk(size: int) -> Iterator[tuple[int, Callable[[], int]]]:
    """Make a file on a disk, out of memory; give it and how much of it is in memory."""
    tried = dict.fromkeys([tempfile.gettempdir(), "/var/tmp", "/tmp", os.getcwd()])
    why = []
    for directory in tried:
        try:
            fd = _new_file(directory, size)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            why.append(f"{directory}: {error.strerror}")
            continue
        with os.fdopen(fd, "rb"):
            view = map_memory(size, mmap.PROT_READ, fd)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                if not in_core(view, size):
                    yield fd, functools.partial(in_core, view, size)
                    return
            finally:
                libc.munmap(view, size)
        why.append(f"{directory}: its files stay in memory")
    raise Skip(
        f"no folder for a file of {mib(size)} on a disk ({'; '.join(why)}): set TMPDIR "
        "to one"
    )


def _new_file(directory: str, size: int) -> int:
    """Write a file that has no name; return its file descriptor."""
    with tempfile.TemporaryFile(dir=directory) as file:
        page = os.urandom(PAGE_SIZE)
        for offset in range(0, size, PAGE_SIZE):
            file.write(offset.to_bytes(8, "little") + page[8:])
        file.flush()
        os.fsync(file.fileno())
        return os.dup(file.fileno())


@contextmanager
def cgroup_for(pid: int, directory: str, name: str) -> Iterator[str]:
    """Make a cgroup for a child in that of this process, and leave nothing of it."""
    path = os.path.join(directory, f"{name}-{os.getpid()}")

    def remove() -> None:
        with signals_blocked():
            if unregister(remove):
                _remove_cgroup(path, directory, pid)

    try:
        with signals_blocked():
            os.mkdir(path)
            register(remove)
        with open(os.path.join(path, "cgroup.procs"), "wb") as file:
            file.write(b"%d" % pid)
    except OSError as error:
        remove()
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise Skip(
            f"no cgroup can be made in {directory} ({error.strerror}): run as root, "
            "with the cgroups mounted read-write, or have the cgroup delegated"
        ) from None
    try:
        yield path
    finally:
        remove()


def _remove_cgroup(path: str, parent: str, pid: int) -> None:
    with suppress(OSError), open(os.path.join(parent, "cgroup.procs"), "wb") as file:
        file.write(b"%d" % pid)
    deadline = time.monotonic() + 10
    while True:
        try:
            return os.rmdir(path)
        except FileNotFoundError:
            return None
        except OSError:  # EBUSY: a process has not wholly left it
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
