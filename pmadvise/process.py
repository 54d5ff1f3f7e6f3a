"""Process: the handle that users hold of a process, whatever happens to its PID."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pmadvise._advise  # the name is for annotations: pmadvise.Hold is loaded then
from pmadvise import _advise, _reasons, residency
from pmadvise._advise.limits import Limits
from pmadvise._advise.run import Run, require_permission
from pmadvise._arguments import PidfdLike, aligned, c_int
from pmadvise._handle.identity import Identity, Pin
from pmadvise._handle.mm import Mm, open_mm
from pmadvise._origin import own
from pmadvise._proc.cgroup_tree import PATH_CUT
from pmadvise.advice import REMOTE, Advice, not_remote
from pmadvise.maps import AddressSpace
from pmadvise.ranges import Ranges, RangesLike
from pmadvise.report import Report
from pmadvise.status import Status, read_status


class Process:
    """A process, by its pidfd and the directory /proc/PID opened with it.

    A Process refers to the same process forever, even if its PID is reused: once the
    process has gone, every method that needs it raises ProcessLookupError. It refers to
    one address space: the one found at opening, or at the latest maps(). A context
    manager; may be used from several threads.

    Args:
        pid: A process ID. Opening needs no permission; reading and advising do.

    Raises:
        TypeError: `pid` is not an int.
        ProcessLookupError: There is no such process.
        OSError: It is a thread's ID, or no file descriptor is free.
    """

    __slots__ = ("_identity", "_mm")

    def __init__(self, pid: int) -> None:
        self._bind(Identity.open(pid))

    @classmethod
    def from_pidfd(cls, fd: PidfdLike) -> Process:
        """Open the process of a pidfd, which stays the caller's: it is duplicated.

        Raises OSError (EBADF), ValueError if it is not a pidfd of a process of this pid
        namespace, ProcessLookupError if the process has been reaped.
        """
        return cls._of_identity(Identity.of_pidfd(fd))

    @classmethod
    def _of_identity(cls, identity: Identity) -> Process:
        """Take over an identity."""
        self = cls.__new__(cls)
        self._bind(identity)
        return self

    def _bind(self, identity: Identity) -> None:
        self._identity = identity
        self._mm: Mm | None = None
        try:
            self._mm = open_mm(identity)
        except own(PermissionError, ProcessLookupError):
            self._mm = None  # reported by the first method that needs it
        except BaseException:
            self.close()
            raise

    def _mm_now(self) -> Mm:
        """Return the address space that this refers to."""
        self._identity.pidfd  # noqa: B018 - raises when closed
        mm = self._mm
        if mm is None:
            mm = self._mm = open_mm(self._identity)
        return mm

    def _pin(self) -> Pin:
        """Keep the file descriptors open for a block, whoever calls close()."""
        return self._identity.pin()

    @property
    def pid(self) -> int:
        """The process ID: for messages, as it may be another's by now."""
        return self._identity.pid

    def fileno(self) -> int:
        """Return the pidfd, for selectors and asyncio: readable at the very end."""
        return self._identity.pidfd

    pidfd = property(fileno, doc="The file descriptor, as long as this is open.")

    def close(self) -> None:
        """Close the file descriptors; it and its AddressSpaces are then of no use."""
        self._mm = None
        self._identity.close()

    def __enter__(self) -> Process:
        """Return itself; raise ValueError if it is closed."""
        self.fileno()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file descriptors."""
        self.close()

    def __repr__(self) -> str:
        """Show the process ID, and whether it is closed."""
        return f"<Process {self.pid}{' closed' if self._identity.closed else ''}>"

    @property
    def alive(self) -> bool:
        """False for one that has ended: a zombie, and a leader that has exited too.

        The other threads of such a leader may live on; wait() waits for them.
        """
        return self._identity.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the process has ended, its last thread too.

        Args:
            timeout: Seconds, 0 or more; None: for ever.

        Returns:
            True if it has ended.

        Raises:
            ValueError: `timeout` is negative, or this is closed.
        """
        return self._identity.wait(timeout)

    def maps(self) -> AddressSpace:
        """Read the mappings as they are now, and refer to their address space.

        Raises:
            PermissionError: ptrace read access is missing.
            ProcessLookupError: The process has gone, or has no memory: a kernel
                thread, or a leader that has exited.
        """
        while True:
            mm = self._mm_now()
            if mm.ended() in ("exec", "exited"):
                mm = self._mm = open_mm(self._identity)
            try:
                space = AddressSpace(mm)
            except own(ProcessLookupError):  # while it was read: exec'd, or gone
                continue
            if mm.ended() not in ("exec", "exited"):
                return space

    def resident(self, within: RangesLike | None = None) -> Ranges:
        """Return the pages in memory, merged, hugetlb ones too; not the zero page.

        Args:
            within: Where to look; None: everywhere.

        Raises:
            PermissionError: ptrace read access or, for the process of another user,
                CAP_DAC_READ_SEARCH is missing.
            ProcessLookupError: It has gone, or has exec'd since the latest maps().
        """
        return residency.resident(self._mm_now(), within)

    def swapped(self, within: RangesLike | None = None) -> Ranges:
        """Return the pages of private memory in swap, merged.

        Arguments and errors as resident(). Shared memory in swap is left out, as the
        page tables of a process have no entry; memory().swap_with_shmem counts it.
        """
        return residency.swapped(self._mm_now(), within)

    def status(self) -> Status:
        """Return the state of the process and the sizes of its memory: cheap.

        It needs no permission, and takes no lock of the process. Raises PermissionError
        if /proc hides the process, ProcessLookupError if it has gone.
        """
        return read_status(self._identity)

    def cgroup(self) -> str:
        """Return the path of its cgroup, in the hierarchy of the memory controller.

        As /proc/PID/cgroup has it for this process, which may be in another cgroup
        namespace: "/" and what follows; undecodable bytes by surrogateescape.

        Raises:
            PermissionError: /proc hides the process.
            ProcessLookupError: It has gone.
            FileNotFoundError: The kernel has no cgroups for memory.
            OSError: The path is longer than the kernel shows (ENAMETOOLONG).
        """
        from pmadvise._proc.cgroups import memory_path  # noqa: PLC0415 - not all need it

        path = memory_path(self._identity.read("cgroup"))
        if path is not None and len(path) >= PATH_CUT:
            raise _reasons.no_cgroup(path, is_mounted=True).error(f"process {self.pid}")
        if path is None:
            raise FileNotFoundError(
                errno.ENOENT,
                f"process {self.pid}: /proc/PID/cgroup has no hierarchy for memory",
            )
        return os.fsdecode(path)

    def memory(self) -> pmadvise.Memory:
        """Return the sums of the process's memory, PSS and USS too; errors as maps().

        The kernel holds the target's mmap lock while it adds them up.
        """
        from pmadvise.memory import read_memory  # noqa: PLC0415 - not all need it

        return read_memory(self._identity)

    def working_set(self, seconds: float) -> pmadvise.WorkingSet:
        """Return how much memory the process touches during `seconds`, not where.

        It clears the accessed bits of the pages, which makes the next touches slower.
        Errors as resident(); for another user's process CAP_DAC_OVERRIDE is needed.
        While a Tracker watches the process: OSError (EBUSY).
        """
        from pmadvise.memory import measure_working_set  # noqa: PLC0415 - likewise

        return measure_working_set(self._mm_now(), seconds)

    def track(self, source: pmadvise.idle.SourceName = "auto") -> pmadvise.Tracker:
        """Watch from now on which of its memory is touched, and which is not.

        Args:
            source: "page_idle", pages, CONFIG_IDLE_PAGE_TRACKING, as root; "damon",
                regions of equal size, CONFIG_DAMON_VADDR, as root, one process at a
                time; "mappings", whole mappings, every kernel; "auto", the first of
                these that can be had.

        Raises:
            TypeError, ValueError: `source` is none of these.
            PermissionError: ptrace read access or, for the process of another user,
                CAP_DAC_OVERRIDE is missing, or what the source needs.
            ProcessLookupError: It has gone, or has exec'd since the latest maps().
            OSError: The source can't be had; another Tracker, or working_set(), watches
                the process, or somebody else uses DAMON (EBUSY).
        """
        from pmadvise.idle import track  # noqa: PLC0415 - not all need it

        return track(self._mm_now(), source)

    def check(self, advice: Advice | int) -> None:
        """Raise what advise() would raise; the kernel is asked, nothing is advised.

        Raises:
            ValueError: Another process never takes that advice.
            PermissionError: ptrace read access (EACCES) or CAP_SYS_NICE (EPERM) is
                missing, or a seccomp filter is in the way (EPERM).
            ProcessLookupError: The process has gone or has no memory (ESRCH).
            OSError: The kernel lacks the advice (EINVAL) or the call (ENOSYS).
        """
        number = self._require_remote(advice)
        with self._pin():
            require_permission(self._identity.pidfd, number)

    def advise(  # noqa: PLR0913 - keywords of one call
        self,
        ranges: RangesLike,
        advice: Advice | int,
        *,
        max_stall: float | None = 0.05,
        budget: int | None = None,
        timeout: float | None = None,
        cancel: _advise.Cancel | None = None,
        on_progress: Callable[[int, int], object] | None = None,
        measure: bool = False,
        dry_run: bool = False,
        touch: bool = False,
    ) -> Report:
        """Advise ranges of any number and size, and account for every byte.

        The ranges are asked as given: in their order, overlaps twice. A range that the
        kernel refuses is skipped and reported, and the rest goes on.

        Args:
            ranges: (address, length), addresses page-aligned.
            advice: COLD, PAGEOUT, WILLNEED or COLLAPSE; any to the own process.
            max_stall: Seconds, more than 0: the longest that a call shall hold the
                target's mmap lock, for which its mmap(2) and munmap(2) wait. None:
                calls as large as the kernel takes. A caller of low priority can't keep
                it, as it is preempted while it holds the lock.
            budget: Bytes: end after so many that were in memory; for WILLNEED, that
                were not.
            timeout: Seconds: end after so many, selection and measuring included;
                looked at between calls.
            cancel: End when its is_set() returns true: a threading.Event. Looked at
                between calls, every 10 ms where they are shorter.
            on_progress: Called with (bytes done, bytes in all) after each call.
            measure: Fill `before`, `after` and `remaining` of the report: bytes advised
                are not bytes reclaimed. Takes no lock of the target.
            dry_run: Make no system call that advises, and account for what would be:
                the same ranges, limits and permissions, with refusals as far as
                /proc/PID/smaps shows them; COLLAPSE may find more. `calls` is 0.
            touch: Of WILLNEED alone: see willneed().

        Returns:
            The account, and why the rest was not tried.

        Raises:
            TypeError, ValueError: An argument is wrong; nothing was advised.
            PermissionError, ProcessLookupError, OSError: As check(). Once work has
                begun, any exception has the Report so far as its `.report`.
        """
        limits = Limits(
            max_stall, budget, timeout, cancel, on_progress, measure, dry_run, touch
        )
        return self._run(advice, limits).run(aligned(ranges))

    def selection(
        self, advice: Advice | int, within: RangesLike | None = None
    ) -> Ranges:
        """Return the ranges that an advice has something to do with.

        For COLD and PAGEOUT what is in memory, for WILLNEED what is not, for COLLAPSE
        the blocks of the size of a huge page that are at least half in memory. Where
        /proc/PID/pagemap may not be read: whole mappings with such memory.

        Args:
            advice: COLD, PAGEOUT, WILLNEED or COLLAPSE.
            within: Addresses to select from, such as some mappings of maps(); None: the
                private anonymous memory that cold(), pageout(), willneed() and
                collapse() select by themselves.

        Raises:
            TypeError, ValueError: An argument is wrong.
            PermissionError: ptrace read access is missing.
            ProcessLookupError: It has gone, or has exec'd since the latest maps().
        """
        number = c_int("advice", advice)
        if number not in REMOTE:
            raise not_remote(number)
        wanted = None if within is None else aligned(within).merged()
        return self._run(number, Limits()).selection(wanted)

    def cold(
        self,
        ranges: RangesLike | None = None,
        **options: _advise.Unpack[_advise.AdviseOptions],
    ) -> Report:
        """Let memory be reclaimed first: advise() with COLD, Linux 5.10.

        Args:
            ranges: None: the private anonymous memory that is in memory. Locked memory
                among it is skipped, with the kernel's errno.
            **options: Those of advise().
        """
        return self._advise(Advice.COLD, ranges, options)

    def pageout(
        self,
        ranges: RangesLike | None = None,
        **options: _advise.Unpack[_advise.AdviseOptions],
    ) -> Report:
        """Reclaim memory now: advise() with PAGEOUT, Linux 5.10.

        Args:
            ranges: None: the private anonymous memory that is in memory and not
                executable; locked memory is skipped. Where /proc/PID/pagemap may not be
                read: the whole of mappings that have any. Needs CAP_DAC_READ_SEARCH for
                another user's process.
            **options: Those of advise().
        """
        return self._advise(Advice.PAGEOUT, ranges, options)

    def willneed(
        self,
        ranges: RangesLike | None = None,
        **options: _advise.Unpack[_advise.AdviseOptions],
    ) -> Report:
        """Read from swap, or a file, ahead: advise() with WILLNEED, Linux 5.15.

        Memory read from swap goes to the swap cache: Rss does not move. touch=True then
        reads a byte of each page, process_vm_readv(2): it is mapped, no fault is left.
        That needs ptrace attach access (another user's: CAP_DAC_READ_SEARCH too), and
        leaves out shared memory and files in memory.

        Args:
            ranges: None: the private anonymous memory that is in swap.
            **options: Those of advise().
        """
        return self._advise(Advice.WILLNEED, ranges, options)

    def collapse(
        self,
        ranges: RangesLike | None = None,
        **options: _advise.Unpack[_advise.AdviseOptions],
    ) -> Report:
        """Make huge pages: advise() with COLLAPSE, Linux 6.1.

        Args:
            ranges: None: the aligned blocks of private anonymous memory of the size of
                a huge page that are at least half in memory.
            **options: Those of advise().
        """
        return self._advise(Advice.COLLAPSE, ranges, options)

    def hold(
        self, method: str = "auto", timeout: float = 1.0, whole_cgroup: bool = False
    ) -> pmadvise.Hold:
        """Return a context manager: the process does not run while its block does.

        A hold, fresh maps() and an advise() leave no race between looking at a process
        and advising it. It runs on when the block ends, when it raises, and when the
        caller is killed. pmadvise.hold.hold() documents each method, and its limits.

        Args:
            method: "ptrace", "freezer", "sigstop", or "auto": the first that works.
            timeout: Seconds for it to be stopped, all methods of "auto" together.
            whole_cgroup: Allow "freezer" to freeze other processes with it.

        Returns:
            A Hold, to be entered once. Entering raises PermissionError, TimeoutError
            (it was let go), ProcessLookupError.

        Raises:
            TypeError, ValueError: An argument is wrong.
        """
        self.fileno()  # raises when closed
        from pmadvise.hold import hold  # noqa: PLC0415 - likewise

        return hold(self._identity, method, timeout, whole_cgroup)

    def _advise(
        self,
        advice: Advice,
        ranges: RangesLike | None,
        options: _advise.AdviseOptions,
    ) -> Report:
        limits = Limits(**options)
        return self._run(advice, limits).run(
            None if ranges is None else aligned(ranges)
        )

    def _run(self, advice: Advice | int, limits: Limits) -> Run:
        return Run(self._mm_now(), self._require_remote(advice), limits)

    def _require_remote(self, advice: Advice | int) -> int:
        """Refuse an advice that another process never takes."""
        number = c_int("advice", advice)
        if number not in REMOTE and self.pid != os.getpid():
            raise not_remote(number)
        return number
