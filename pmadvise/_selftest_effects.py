"""Checks of the selftest: the host, and each advice by its effect on memory."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pmadvise
from pmadvise import PAGE_SIZE, Advice, Ranges, Report, _host, _sys
from pmadvise._selftest_child import (
    MIB,
    SETTLED,
    Child,
    Skip,
    in_core,
    libc,
    map_memory,
)
from pmadvise.advice import REMOTE

LATE = SETTLED // 2
"""Pages that may escape an advice: those that a CPU has not yet put on a list."""
SMALL = max(4 * MIB, 4 * SETTLED)
"""Bytes for a check whose point is not size."""
_TRIES = 20
_IDLE = 3.0
"""Seconds without a page after which nothing more is read from a disk."""


def mib(size: int) -> str:
    """Return a size for a message."""
    return f"{size / MIB:.0f} MiB" if size >= MIB else f"{size >> 10} KiB"


def permitted(child: Child, advice: Advice = Advice.COLD) -> None:
    """Skip where this user, or this kernel, may not advise a child so."""
    target = pmadvise.support(child.process).target
    if target is None:
        raise AssertionError("support() says nothing about a target")
    answer = target.advice[advice]
    try:
        child.process.check(advice)
    except OSError as error:
        if answer.ok or error.errno != answer.errno:
            raise AssertionError(
                f"support() says {answer}, and check() raises {error}"
            ) from error
        raise Skip(str(answer)) from None
    if not answer:
        raise AssertionError(f"support() says {answer}, and check() raises nothing")


def whole(report: Report, size: int) -> None:
    """Raise unless all was advised."""
    if (report.advised, report.skipped, report.ended) != (size, (), "complete"):
        raise AssertionError(f"of {size} bytes not all were advised: {report}")


def intact(child: Child, address: int, size: int) -> None:
    """Raise unless the child finds its memory as it left it."""
    if child.ask("intact", address, size) is not True:
        raise AssertionError("the child's memory has changed")


def settle(
    act: Callable[[], object], look: Callable[[], bool], tries: int = _TRIES
) -> bool:
    """Act until the effect is seen: what is busy at the moment escapes an advice."""
    for attempt in range(tries):
        act()
        if look():
            return True
        time.sleep(0.001 * attempt)
    return False


def check_host(size: int) -> str:
    """Say what this host is, and what this process may do."""
    found = pmadvise.support()
    json.dumps(found.to_dict(), allow_nan=False)
    if found.page_size != mmap.PAGESIZE or found.page_size & (found.page_size - 1):
        raise AssertionError(f"a page has {mmap.PAGESIZE} bytes, not {found.page_size}")
    missing = [
        name
        for name, there in (
            ("CAP_SYS_NICE", found.cap_sys_nice),
            ("CAP_SYS_PTRACE", found.cap_sys_ptrace),
        )
        if not there
    ]
    words = [
        f"Linux {found.kernel} {found.machine}",
        f"{found.page_size}-byte pages",
        f"{mib(found.swap_free)} of swap free" if found.swap_total else "no swap",
        f"uid {os.geteuid()}" + (f" without {' and '.join(missing)}" * bool(missing)),
    ]
    if found.initial_user_namespace is False:
        words.append("in a user namespace")
    if found.initial_pid_namespace is False:
        words.append("in a pid namespace")
    if found.container:
        words.append(f"in a container ({found.container})")
    if found.seccomp == "filter":
        words.append("under a seccomp filter")
    return ", ".join(words)


def check_syscall(size: int) -> str:
    """Ask for the system calls in a way of its own, and compare."""
    found = pmadvise.support()
    _same_pidfd_open()
    with Child() as child:
        pidfd = child.process.fileno()
        for fd, advice in ((-1, 20), *((pidfd, int(one)) for one in _NUMBERS)):
            theirs, ours = _independent(fd, advice), _sys.probe(fd, advice)
            if theirs not in (None, ours):
                raise AssertionError(
                    f"process_madvise({fd}, NULL, 0, {advice}, 0) returns {ours}, and "
                    f"{theirs} when asked without pmadvise: the number of the system "
                    "call is wrong in this build"
                )
        if {one.name: int(one) for one in REMOTE} != _NUMBERS_BY_NAME:
            raise AssertionError(f"the numbers of advices are wrong: {REMOTE}")
    for answer in (found.pidfd_open, found.process_madvise):
        if not answer:
            if answer.refused_by == "build":
                raise AssertionError(str(answer))
            raise Skip(str(answer))
    known = [one.name for one, answer in found.advice.items() if answer]
    return f"process_madvise is there, for other processes {', '.join(known)}"


def _same_pidfd_open() -> None:
    """Raise unless pidfd_open() does what Python's own does."""
    ours = _sys.pidfd_open(os.getpid(), 0)
    try:
        theirs = os.pidfd_open(os.getpid())
    except AttributeError:  # Python was built with older headers
        theirs = -1
    except OSError as error:
        theirs = -(error.errno or 0)
        if ours == theirs:
            return
    try:
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in (ours, theirs) if fd >= 0]
        if ours < 0 <= theirs or any("pidfd" not in name for name in names):
            raise AssertionError(
                f"pidfd_open() returns {ours}, and Python's own {theirs}, of {names}: "
                "the number of the system call is wrong in this build"
            )
    finally:
        for fd in (ours, theirs):
            if fd >= 0:
                os.close(fd)


# include/uapi/asm-generic/mman-common.h, once more: that one wrong number is seen.
_NUMBERS_BY_NAME = {"WILLNEED": 3, "COLD": 20, "PAGEOUT": 21, "COLLAPSE": 25}
_NUMBERS = tuple(_NUMBERS_BY_NAME.values())


def _independent(pidfd: int, advice: int) -> int | None:
    """Call process_madvise(2) by libc; None where its number is not known here."""
    arguments = [
        ctypes.c_int(pidfd),
        ctypes.c_void_p(None),
        ctypes.c_size_t(0),
        ctypes.c_int(advice),
        ctypes.c_uint(0),
    ]
    machine = os.uname().machine
    if hasattr(libc, "process_madvise"):  # glibc 2.36
        result = libc.process_madvise(*arguments)
    elif machine.startswith(("alpha", "mips", "ia64")) or (
        machine == "x86_64" and (ctypes.sizeof(ctypes.c_void_p) == 4)
    ):
        return None
    else:
        result = libc.syscall(ctypes.c_long(440), *arguments)
    return -ctypes.get_errno() if result < 0 else int(result)


def check_permission(size: int) -> str:
    """Ask whether a child may be advised, and whether support() knows it."""
    with Child() as child:
        permitted(child)
    return f"uid {os.geteuid()} may advise its child"


def check_own(size: int) -> str:
    """See COLD act on the memory of the process that asks for it."""
    found = pmadvise.support()
    if not found.process_madvise:
        raise Skip(str(found.process_madvise))
    with Child() as child:
        address = child.ask("map", SMALL)
        try:
            advised = child.ask("advise_self", address, SMALL, Advice.COLD)
        except PermissionError as error:  # up to Linux 6.11
            if error.errno != errno.EPERM or found.others:
                raise
            raise Skip(str(found.others)) from None
        left = child.ask("smaps", address, SMALL, "Referenced")
        if advised != SMALL or left > LATE:
            raise AssertionError(f"{advised} of {SMALL} advised, Referenced {left}")
        intact(child, address, SMALL)
    return "a process may advise itself" + (
        ", with every advice" if found.own_process else ""
    )


def check_maps(size: int) -> str:
    """Find a child's mappings, and see one go."""
    with Child() as child:
        address = child.ask("map", SMALL)
        space = child.process.maps()
        found = [vma for vma in space if vma.start == address]
        if not (
            len(found) == 1
            and (found[0].length, found[0].perms) == (SMALL, "rw-p")
            and (address, SMALL) in space.select(anonymous=True, private=True)
        ):
            raise AssertionError(f"{address:#x} is not found as mapped: {found}")
        child.ask("unmap", address, SMALL // 2)
        changed = space.changed() & Ranges([(address, SMALL)])
        if changed != Ranges([(address, SMALL // 2)]):
            raise AssertionError(f"half of it was unmapped, and changed() is {changed}")
    fast = pmadvise.support().procmap_query
    return f"{len(space)} mappings read" + ("" if fast else f"; {fast}")


def check_resident(size: int) -> str:
    """See which pages of a child are in memory."""
    with Child() as child:
        address = child.ask("map", SMALL, 0)
        child.ask("fill_small", address, SMALL // 2)  # a huge page would be more
        found = child.process.resident(Ranges([(address, SMALL)]))
        if found != Ranges([(address, SMALL // 2)]):
            raise AssertionError(f"half of it was touched, and resident() is {found}")
        memory = child.process.memory()
        if memory.rss < SMALL // 2:
            raise AssertionError(f"memory() is {memory}")
    fast = pmadvise.support().pagemap_scan
    return f"{mib(SMALL // 2)} of {mib(SMALL)} in memory" + (
        "" if fast else f"; {fast}"
    )


def check_cold(size: int) -> str:
    """See COLD take the Referenced mark away, and nothing else."""
    with Child() as child:
        permitted(child, Advice.COLD)
        address = child.ask("map", size)

        def referenced() -> int:
            return int(child.ask("smaps", address, size, "Referenced"))

        before = referenced()
        settled = settle(
            lambda: whole(child.process.cold([(address, size)]), size),
            lambda: referenced() <= LATE,
        )
        after, rss = referenced(), child.ask("smaps", address, size, "Rss")
        if before < size or not settled or rss < size:
            raise AssertionError(
                f"of {size} bytes Referenced {before} -> {after}, Rss {rss}"
            )
        intact(child, address, size)
    return f"Referenced {mib(before)} -> {mib(after)}, memory intact"


def check_pageout(size: int) -> str:
    """See PAGEOUT move anonymous memory to swap."""
    with Child() as child:
        permitted(child, Advice.PAGEOUT)
        size = _for_swap(size)
        address = child.ask("map", size)
        ranges = Ranges([(address, size)])
        reports: list[Report] = []

        def pageout() -> None:
            reports.append(child.process.pageout(ranges, measure=True))
            whole(reports[-1], size)

        settled = settle(
            pageout, lambda: child.process.swapped(ranges).total >= size - LATE
        )
        swapped = child.ask("status", "VmSwap")
        if not settled or swapped < size - LATE:
            raise AssertionError(f"VmSwap of {size} bytes is {swapped}")
        before, after = reports[0].before, reports[-1].after
        if before is None or after is None or after.rss > before.rss - size + LATE:
            raise AssertionError(f"Rss has not fallen: {before} -> {after}")
        intact(child, address, size)
    return f"VmSwap 0 -> {mib(swapped)}, Rss less by so much, memory intact"


def check_pageout_file(size: int) -> str:
    """See PAGEOUT put a file that a child maps out of memory."""
    with Child() as child:
        permitted(child, Advice.PAGEOUT)
    size = max(size // 4, SMALL)
    with _file(size) as (fd, cached), Child() as child:
        # Page by page: readahead makes large folios, which 6.1 may fail to split.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for offset in range(0, size, PAGE_SIZE):
            os.pread(fd, 1, offset)
        address = child.ask("map", size, None, fd)
        before = cached()

        def pageout() -> None:
            # A folio that a call covered in part may have been unmapped and left in
            # the page cache, out of the reach of PAGEOUT: mapped again by a look.
            intact(child, address, size)
            report = child.process.pageout([(address, size)], max_stall=None)
            whole(report, size)

        settled = settle(pageout, lambda: cached() <= LATE)
        after = cached()
        if before < size or not settled:
            raise AssertionError(f"of {size} bytes in memory {before} -> {after}")
        intact(child, address, size)
    return f"page cache {mib(before)} -> {mib(after)} of a file, contents intact"


def check_willneed(size: int) -> str:
    """See WILLNEED fill the page cache, and the swap cache where that can be seen."""
    with Child() as child:
        permitted(child, Advice.WILLNEED)
    size = max(size // 2, SMALL)
    with _file(size) as (fd, cached), Child() as child:
        before = cached()
        address = child.ask("map_file", size, fd)

        # The disk may be slow: WILLNEED begins to read, and returns.
        if before or not settle(
            lambda: whole(child.process.willneed([(address, size)]), size),
            lambda: _reaches(size, cached),
            2,
        ):
            raise AssertionError(f"of {size} bytes in memory {before} -> {cached()}")
    return f"page cache 0 -> {mib(size)} of a file, {_willneed_swap(size)}"


def _willneed_swap(size: int) -> str:
    try:
        size = _for_swap(size)
    except Skip:
        return "swap cache not tried (no swap)"
    with Child() as child:
        address = child.ask("map", size)

        def cached() -> int:
            return int(child.ask("in_core", address, size))

        child.process.pageout([(address, size)], max_stall=None)
        swapped = child.process.swapped(Ranges([(address, size)])).total
        before = cached()
        if swapped < size - LATE:
            return "swap cache not tried (PAGEOUT moved too little)"
        if before > size // 2:
            intact(child, address, size)
            return "swap cache not seen (this swap keeps pages in it anyway)"
        settled = settle(
            lambda: whole(child.process.willneed([(address, size)]), size),
            lambda: _reaches(size - LATE, cached),
            2,
        )
        after = cached()
        if not settled:
            raise AssertionError(f"of {size} in the swap cache {before} -> {after}")
        intact(child, address, size)
    return f"swap cache {mib(before)} -> {mib(after)}, memory intact"


def check_collapse(size: int) -> str:
    """See COLLAPSE make huge pages of small ones."""
    with Child() as child:
        permitted(child, Advice.COLLAPSE)
        huge = pmadvise.support().huge_page_size
        if huge is None:
            raise Skip("there are no transparent huge pages here")
        if huge > size:
            raise Skip(
                f"a huge page has {mib(huge)} here, more than --size: pass --size "
                f"{huge // MIB}, on a host with {mib(3 * huge)} of memory free"
            )
        # Aligned pages fit in whatever the address is.
        pages = min(max(size // 4 // huge, 1), 4)
        room = (pages + 1) * huge
        start = child.ask("reserve", room)
        address, size = -(-start // huge) * huge, pages * huge
        child.ask("fill_small", address, size)

        def made() -> int:
            return int(child.ask("smaps", address, size, "AnonHugePages"))

        before, reports = made(), list[Report]()
        settled = settle(
            lambda: reports.append(child.process.collapse([(address, size)])),
            lambda: made() == size,
        )
        if before or not settled:
            _no_huge_page(reports[-1])
            raise AssertionError(
                f"AnonHugePages of {size} bytes {before} -> {made()}: {reports[-1]}"
            )
        intact(child, address, size)
    return f"AnonHugePages 0 -> {mib(size)}, memory intact"


def _no_huge_page(report: Report) -> None:
    """Skip where the kernel has no free huge page, or was told to make none."""
    said = {skip.errno for skip in report.skipped}
    enabled = _host.text_of("/sys/kernel/mm/transparent_hugepage/enabled") or ""
    if said and said <= {errno.ENOMEM, errno.EAGAIN}:
        raise Skip(
            "the kernel finds no free huge page: memory is fragmented, or the cgroup "
            "is at its limit; free some, or echo 1 >/proc/sys/vm/compact_memory"
        )
    if said == {errno.EINVAL} and "[never]" in enabled:
        raise Skip(
            "transparent huge pages are turned off: echo madvise "
            ">/sys/kernel/mm/transparent_hugepage/enabled"
        )


def _reaches(goal: int, look: Callable[[], int]) -> bool:
    """Wait until what is read in the background is there, as long as it gets more."""
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


def _for_swap(size: int) -> int:
    """Return how much may be swapped: all, or half of what is free."""
    found = pmadvise.support()
    room = found.swap_free // 2
    if found.swap_allowed is not None and found.swap_allowed // 2 < room:
        room = found.swap_allowed // 2
        if room < SMALL:
            raise Skip(
                f"this cgroup may swap {mib(found.swap_allowed)} more, and "
                f"{mib(2 * SMALL)} are needed: raise its memory.swap.max (Kubernetes: "
                "memorySwap.swapBehavior: LimitedSwap)"
            )
    if room < SMALL:
        raise Skip(
            f"{mib(found.swap_free)} of swap are free, and {mib(2 * SMALL)} are needed "
            "to see an effect: turn swap on with swapon(8), a file or zram"
        )
    return min(size, room) & -PAGE_SIZE


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
def _file(size: int) -> Iterator[tuple[int, Callable[[], int]]]:
    """Make a file on a disk, out of memory; give it and how much of it is in memory."""
    tried = dict.fromkeys([tempfile.gettempdir(), "/var/tmp", "/tmp", os.getcwd()])
    why = []
    for directory in tried:
        try:
            fd = _new_file(directory, size)
        except OSError as error:
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
