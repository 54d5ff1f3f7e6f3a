"""The handle that users hold: one process, whatever becomes of its pid."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from pmadvise import _sys, residency
from pmadvise._identity import directory_of, ended, pid_of, stat_of, why_no_mm
from pmadvise._sys import MAX_RW_COUNT, PAGE_SIZE
from pmadvise.advice import REMOTE, Advice, advice_name
from pmadvise.calls import (
    PidfdLike,
    c_int,
    explain,
    fileno_of,
    pidfd_open,
)
from pmadvise.engine import Cancel, Engine, Limits, Options, Report
from pmadvise.maps import AddressSpace, Mm, open_proc, read_proc
from pmadvise.ranges import Ranges
from pmadvise.residency import Memory

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pmadvise.hold import Hold

_PMD_SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
_POLL_MAX = 1_000_000_000  # ms: poll(2) takes a C int


class Process:
    """A process, by its pidfd and the directory /proc/PID opened with it.

    It never becomes another process, also when the pid is in use again: once the
    process has gone, what asks for it raises ProcessLookupError for ever. It speaks of
    one address space: the one found at opening, or at the latest maps(). A context
    manager; may be used from several threads.

    Args:
        pid: A process ID. Opening needs no permission; reading and advising do.

    Raises:
        TypeError: `pid` is not an int.
        ProcessLookupError: There is no such process.
        OSError: It is a thread's ID, or no file descriptor is free.
    """

    __slots__ = ("_mm", "_pid", "_pidfd", "_proc")

    def __init__(self, pid: int) -> None:
        self._open(pidfd_open(pid), pid)

    @classmethod
    def from_pidfd(cls, fd: PidfdLike) -> Process:
        """Open the process of a pidfd, which stays the caller's: it is duplicated.

        Args:
            fd: Of a process, or anything that has fileno().

        Raises:
            OSError: It is no open file descriptor (EBADF).
            ValueError: It is no pidfd, or a thread's.
            ProcessLookupError: The process has been reaped.
        """
        number = fileno_of(fd)
        pidfd = os.dup(number)
        try:
            pid = pid_of(pidfd)
            if pid == 0:
                raise ValueError(
                    f"the process of pidfd {number} is not of this pid namespace"
                )
        except BaseException:
            os.close(pidfd)
            raise
        self = cls.__new__(cls)
        self._open(pidfd, pid)
        return self

    def _open(self, pidfd: int, pid: int) -> None:
        """Take over `pidfd`, and find its directory of /proc."""
        self._pid, self._pidfd, self._proc = int(pid), pidfd, -1
        self._mm: Mm | None = None
        try:
            self._proc = directory_of(pidfd)
            if self._proc >= 0:
                try:
                    self._mm = self._find_mm()
                except (PermissionError, ProcessLookupError):
                    self._mm = None  # to be said to who asks for it
        except BaseException:
            self.close()
            raise

    def _find_mm(self) -> Mm:
        """Open the address space that the process has now."""
        why = self._no_mm() if self._ended() else None
        while why is None:
            try:
                mm = Mm(self._proc)
                if mm.current:
                    return mm
                mm.close()
            except ProcessLookupError:
                pass
            why = self._no_mm()  # None: it exec'd meanwhile
        raise self._gone(why)

    def _gone(self, why: str | None = None) -> ProcessLookupError:
        """Return the error that says why the address space is not there."""
        why = why or self._no_mm() or "has exec'd since: call maps() again"
        return ProcessLookupError(errno.ESRCH, f"process {self._pid}: {why}")

    def _no_mm(self) -> str | None:
        """Say why there is no address space; None if there should be one."""
        return why_no_mm(self.fileno(), self._proc)

    def _ended(self, timeout: int | None = 0) -> bool:
        """Tell whether the last thread has ended, waiting up to `timeout` ms for it."""
        return ended(self.fileno(), timeout)

    def _mm_now(self) -> Mm:
        """Return the address space that this speaks of."""
        self.fileno()
        mm = self._mm
        if mm is None:
            mm = self._mm = self._find_mm()
        return mm

    @property
    def pid(self) -> int:
        """The process ID: for messages, as it may be another's by now."""
        return self._pid

    @property
    def pidfd(self) -> int:
        """The file descriptor, as long as this is open."""
        return self.fileno()

    def fileno(self) -> int:
        """Return the pidfd, for selectors and asyncio: readable once all has ended.

        Raises:
            ValueError: This is closed.
        """
        if self._pidfd < 0:
            raise ValueError(f"the Process of pid {self._pid} is closed")
        return self._pidfd

    def close(self) -> None:
        """Close the file descriptors; it and its AddressSpaces are then of no use."""
        mm, self._mm = self._mm, None
        if mm is not None:
            mm.close()
        for name in ("_proc", "_pidfd"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)

    def __enter__(self) -> Process:
        self.fileno()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Process {self._pid}{' closed' if self._pidfd < 0 else ''}>"

    @property
    def alive(self) -> bool:
        """False for one that has ended: a zombie, and a leader that has exited too.

        The other threads of such a leader may live on; wait() waits for them.
        """
        if self._ended():
            return False
        if self._proc < 0:
            return True
        try:
            return stat_of(self._proc)[0] not in "ZX"
        except (PermissionError, ProcessLookupError):
            # reaped since; or it has changed its user, and /proc hides it: hidepid
            return not self._ended()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the process has ended, its last thread too.

        Args:
            timeout: Seconds, 0 or more; None: for ever.

        Returns:
            True if it has ended.

        Raises:
            ValueError: `timeout` is negative, or this is closed.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout {timeout!r} is negative")
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = max(1000 * (end - time.monotonic()), 0)
            if self._ended(_POLL_MAX if left > _POLL_MAX else math.ceil(left)):
                return True
            if time.monotonic() >= end:
                return False

    def maps(self) -> AddressSpace:
        """Read the mappings as they are now, and speak of their address space.

        Raises:
            PermissionError: ptrace read access is missing.
            ProcessLookupError: The process has gone, or has no memory: a kernel
                thread, or a leader that has exited.
        """
        while True:
            mm = self._mm_now()
            if not mm.current:
                # Not closed: snapshots of it, and other threads, may use it.
                mm = self._mm = self._find_mm()
            try:
                space = AddressSpace(mm)
            except ProcessLookupError:  # while it was read: exec'd, or gone
                continue
            if mm.current:
                return space

    def resident(
        self, within: Ranges | Iterable[tuple[int, int]] | None = None
    ) -> Ranges:
        """Return the pages in memory, merged; the zero page is not counted.

        Args:
            within: Where to look; None: everywhere.

        Raises:
            PermissionError: ptrace read access is missing.
            ProcessLookupError: It has gone, or has exec'd since the latest maps().
        """
        mm = self._mm_now()
        try:
            return residency.resident(self._proc, mm, within)
        except ProcessLookupError:
            raise self._gone() from None

    def swapped(
        self, within: Ranges | Iterable[tuple[int, int]] | None = None
    ) -> Ranges:
        """Return the pages in swap, merged; arguments and errors as resident()."""
        mm = self._mm_now()
        try:
            return residency.swapped(self._proc, mm, within)
        except ProcessLookupError:
            raise self._gone() from None

    def memory(self) -> Memory:
        """Return how much is in memory and in swap; errors as maps()."""
        self.fileno()
        if self._ended():
            raise self._gone("has exited")
        try:
            return residency.memory(self._proc)
        except ProcessLookupError:
            raise self._gone() from None

    def check(self, advice: Advice | int) -> None:
        """Raise what advise() would raise; the kernel is asked, nothing is advised.

        Args:
            advice: What it is about.

        Raises:
            ValueError: Another process never takes that advice.
            PermissionError: ptrace read access (EACCES) or CAP_SYS_NICE (EPERM) is
                missing, or a seccomp filter is in the way (EPERM).
            ProcessLookupError: The process has gone or has no memory (ESRCH).
            OSError: This kernel does not take the advice (EINVAL), or has no such
                system call (ENOSYS).
        """
        advice = self._taken(advice)
        result = _sys.probe(self.fileno(), advice)
        if result < 0:
            raise explain(self.fileno(), advice, -result)

    def advise(
        self,
        ranges: Ranges | Iterable[tuple[int, int]],
        advice: Advice | int,
        *,
        max_stall: float | None = 0.05,
        budget: int | None = None,
        timeout: float | None = None,
        cancel: Cancel | None = None,
        on_progress: Callable[[int, int], object] | None = None,
        measure: bool = False,
    ) -> Report:
        """Advise ranges of any number and size, and account for every byte.

        The ranges are asked as given: in their order, overlaps twice. What the kernel
        refuses is skipped and reported, and the rest goes on.

        Args:
            ranges: (address, length), addresses page-aligned.
            advice: COLD, PAGEOUT, WILLNEED or COLLAPSE; any to the own process.
            max_stall: Seconds that no call shall hold the target's mmap lock for, as
                its mmap(2), munmap(2) and page faults that need it wait so long. None:
                calls as large as the kernel takes.
            budget: End after so many bytes that were in memory; for WILLNEED, that
                were not.
            timeout: End after so many seconds; between calls.
            cancel: End when its is_set() says so: a threading.Event.
            on_progress: Called with (bytes done, bytes in all) after each call.
            measure: Fill `before` and `after` of the report: bytes advised are not
                bytes reclaimed.

        Returns:
            What was done, and why the rest was not.

        Raises:
            TypeError, ValueError: An argument is wrong; nothing was advised.
            PermissionError, ProcessLookupError, OSError: As check() says. Once work
                has begun, the `.report` of any exception is the Report so far.
        """
        limits = Limits(max_stall, budget, timeout, cancel, on_progress)
        advice = c_int("advice", advice)
        if not isinstance(ranges, Ranges):
            ranges = Ranges(ranges)
        unaligned = _sys.ranges_unaligned(ranges._array, len(ranges))
        if unaligned != len(ranges):
            raise ValueError(
                f"ranges[{unaligned}]: address {ranges[unaligned][0]:#x} is not a "
                f"multiple of the page size, {PAGE_SIZE:#x}"
            )
        return self._run(ranges, None, advice, limits, measure)

    def cold(
        self,
        ranges: Ranges | Iterable[tuple[int, int]] | None = None,
        **options: Unpack[Options],
    ) -> Report:
        """Have memory be the first that is reclaimed: advise() with COLD, Linux 5.10.

        Args:
            ranges: None: all private anonymous mappings that are not locked.
            **options: Those of advise().
        """
        return self._advise_default(Advice.COLD, ranges, options)

    def pageout(
        self,
        ranges: Ranges | Iterable[tuple[int, int]] | None = None,
        **options: Unpack[Options],
    ) -> Report:
        """Reclaim memory now: advise() with PAGEOUT, Linux 5.10.

        Args:
            ranges: None: what is in memory of the private anonymous mappings that are
                not locked and not executable.
            **options: Those of advise().
        """
        return self._advise_default(Advice.PAGEOUT, ranges, options)

    def willneed(
        self,
        ranges: Ranges | Iterable[tuple[int, int]] | None = None,
        **options: Unpack[Options],
    ) -> Report:
        """Read from swap, or a file, ahead: advise() with WILLNEED, Linux 5.15.

        What comes from swap fills the swap cache: Rss does not move.

        Args:
            ranges: None: all private anonymous mappings that are not locked.
            **options: Those of advise().
        """
        return self._advise_default(Advice.WILLNEED, ranges, options)

    def collapse(
        self,
        ranges: Ranges | Iterable[tuple[int, int]] | None = None,
        **options: Unpack[Options],
    ) -> Report:
        """Make huge pages: advise() with COLLAPSE, Linux 6.1.

        Args:
            ranges: None: the whole huge pages (PMD-sized and aligned) in the private
                anonymous mappings that are not locked.
            **options: Those of advise().
        """
        return self._advise_default(Advice.COLLAPSE, ranges, options)

    def hold(
        self, method: str = "auto", timeout: float = 1.0, whole_cgroup: bool = False
    ) -> Hold:
        """Return a context manager: the process does not run while its block does.

        It closes the race between looking at the process and advising it: a hold, fresh
        maps() and an advise() have none. It runs on when the block ends, when it
        raises, and when the caller is killed. pmadvise.hold.hold() says how each
        method works, and what to mind.

        Args:
            method: "ptrace", "freezer", "sigstop", or "auto": the first that works.
            timeout: Seconds for it to be stopped, all methods of "auto" together.
            whole_cgroup: Allow "freezer" to freeze other processes with it.

        Returns:
            A Hold, to be entered once: `method`, `refused` ({method: reason}), and on
            leaving `broken`, what ended it from outside. Entering raises
            PermissionError, TimeoutError (it was let go), ProcessLookupError.

        Raises:
            TypeError, ValueError: An argument is wrong.
            PermissionError: Its directory in /proc is not to be seen.
        """
        from pmadvise.hold import hold

        fileno = self.fileno()
        if self._proc < 0:
            os.close(open_proc(self._proc, "stat"))  # says why
        return hold(fileno, self._proc, method, timeout, whole_cgroup)

    def _advise_default(
        self,
        advice: Advice,
        ranges: Ranges | Iterable[tuple[int, int]] | None,
        options: Options,
    ) -> Report:
        if ranges is not None:
            return self.advise(ranges, advice, **options)
        measure = options.get("measure", False)
        limits = Limits(**{k: v for k, v in options.items() if k != "measure"})  # type: ignore[arg-type]
        mm = self._mm_now()
        space, selected = None, Ranges()
        try:
            if mm.current:
                space = AddressSpace(mm)
                selected = self._select(space, mm, advice)
        except ProcessLookupError:  # exec'd, or gone, meanwhile
            space, selected = None, Ranges()
        return self._run(selected, space, advice, limits, measure)

    def _select(self, space: AddressSpace, mm: Mm, advice: Advice) -> Ranges:
        """Return what an advice is for where no ranges are given."""
        pmd_size = _pmd_size()
        selected = space.select(
            anonymous=True,
            private=True,
            executable=False if advice == Advice.PAGEOUT else None,
            min_length=pmd_size if advice == Advice.COLLAPSE else 0,
        )
        if residency.sizes(read_proc(self._proc, "status")).get("VmLck"):
            selected -= residency.locked(read_proc(self._proc, "smaps"))
        if advice == Advice.PAGEOUT:
            selected = residency.resident(self._proc, mm, selected)
        if advice == Advice.COLLAPSE:
            borders = (
                (-(-address // pmd_size) * pmd_size, (address + length) & -pmd_size)
                for address, length in selected
            )
            selected = Ranges(
                (start, end - start) for start, end in borders if start < end
            )
        return selected

    def _taken(self, advice: Advice | int) -> int:
        """Refuse what another process never takes."""
        number = c_int("advice", advice)
        if number not in REMOTE and self._pid != os.getpid():
            raise ValueError(
                f"advice {advice_name(number)} is not for another process: "
                "COLD, PAGEOUT, WILLNEED and COLLAPSE are"
            )
        return number

    def _run(
        self,
        ranges: Ranges,
        space: AddressSpace | None,
        advice: int,
        limits: Limits,
        measure: bool,
    ) -> Report:
        advice = self._taken(advice)
        mm = self._mm_now()
        fate = mm.fate()
        if fate is None:
            self.check(advice)
        elif fate == "exited":
            raise self._gone()

        def measured() -> Memory | None:
            try:
                return self.memory() if mm.current else None
            except ProcessLookupError:
                return None

        return Engine(
            self.fileno(),
            mm,
            ranges,
            advice,
            limits,
            lambda within: residency.resident(self._proc, mm, within),
            longest=_pmd_size() if advice == Advice.COLLAPSE else MAX_RW_COUNT,
            measure=measured if measure else None,
        ).run(space)


def _pmd_size() -> int:
    """Return the bytes of a huge page that COLLAPSE makes."""
    try:
        with open(_PMD_SIZE, "rb", buffering=0) as file:
            return int(file.read(32))
    except FileNotFoundError:  # the kernel has none, and will say so
        return PAGE_SIZE * PAGE_SIZE // 8
