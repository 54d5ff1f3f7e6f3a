"""csrc/mm.c: the end of an mm, and advice to, or a look at, no later one."""

from __future__ import annotations

from pmadvise._native.base import check, ffi, lib
from pmadvise._native.ranges import RangeArray

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CURRENT: int = lib.PMADVISE_MM_CURRENT
EXEC: int = lib.PMADVISE_MM_EXEC
EXITED: int = lib.PMADVISE_MM_EXITED
REFUSED: int = lib.PMADVISE_MM_REFUSED

TOUCH_MAX: int = lib.PMADVISE_TOUCH_MAX
"""Pages that mm_touch() reads at once."""


class MmFingerprint:
    """A native ``struct pmadvise_mm_fingerprint``: differs between mms of a process.

    Args:
        proc: File descriptor of the directory /proc/PID.
        pid: The process ID, as that /proc counts.

    Raises:
        OSError: ENOENT or ESRCH, the process has gone.
    """

    __slots__ = ("cdata",)

    def __init__(self, proc: int, pid: int) -> None:
        self.cdata: Any = ffi.new("struct pmadvise_mm_fingerprint *")
        check(lib.pmadvise_mm_read(proc, pid, self.cdata), f"task/{pid}/stat")

    @property
    def has_mm(self) -> bool:
        """Whether the process has an address space."""
        return bool(self.cdata.start_code)

    @property
    def is_readable(self) -> bool:
        """Whether ptrace read access was given; without it all mms look alike."""
        return not (self.cdata.start_code == 1 and self.cdata.start_stack == 0)


def mm_is_random(proc: int) -> bool:
    """Return whether the addresses of a process's next program are known to be random.

    By its personality(2) alone; False too where that may not be read.
    """
    return lib.pmadvise_mm_is_random(proc) == 1


class Burst:
    """A native ``struct pmadvise_burst``: how a call for one range is followed."""

    __slots__ = ("cdata",)

    def __init__(self) -> None:
        self.cdata: Any = ffi.new("struct pmadvise_burst *")

    def set(
        self,
        more: int,
        least: int = 0,
        most: int = 0,
        room: int = 0,
        turn: int = 0,
        pause: int = 0,
    ) -> None:
        """Let calls of the same length follow; times are nanoseconds.

        Args:
            more: Calls, at the most.
            least: Of a call, for the next to be as long.
            most: The same.
            room: Of all, pauses too, after which there is no next.
            turn: Of calls, after which the target has its turn.
            pause: That turn, which is then slept; 0: no call follows there.
        """
        burst = self.cdata
        burst.more, burst.least, burst.most, burst.room = more, least, most, room
        burst.turn, burst.pause = turn, pause


class Tally:
    """A native ``struct pmadvise_tally``: the calls made, counted beside each call.

    So no exception, of a signal handler say, can come between a call and its account.
    """

    __slots__ = ("cdata",)

    def __init__(self) -> None:
        self.cdata: Any = ffi.new("struct pmadvise_tally *")

    def rehearse(self, n_bytes: int) -> None:
        """Count bytes as advised, without a call."""
        self.cdata.advised += n_bytes

    @property
    def calls(self) -> int:
        """System calls made."""
        return int(self.cdata.calls)

    @property
    def advised(self) -> int:
        """Bytes advised, of whole ranges."""
        return int(self.cdata.advised)

    @property
    def longest(self) -> float:
        """Seconds of the longest call."""
        return float(self.cdata.longest * 1e-9)

    @property
    def result(self) -> int:
        """Bytes advised by the latest call, or -errno."""
        return int(self.cdata.result)

    @property
    def seconds(self) -> float:
        """Seconds of the latest call."""
        return float(self.cdata.nanoseconds * 1e-9)

    @property
    def spent(self) -> float:
        """Seconds of all calls."""
        return float(self.cdata.spent * 1e-9)

    @property
    def locked(self) -> float:
        """Seconds of the calls that advised since the target had its turn."""
        return float(self.cdata.locked * 1e-9)

    def turn(self) -> None:
        """Note that the target has its turn now."""
        self.cdata.locked = 0


def mm_ended(proc: int, pid: int, maps_fd: int, then: MmFingerprint) -> int:
    """Return CURRENT, EXEC, EXITED or REFUSED, or -errno; `maps_fd` may be -1."""
    return lib.pmadvise_mm_ended(proc, pid, maps_fd, then.cdata)


def mm_advise(
    pidfd: int,
    stat_fd: int,
    maps_fd: int,
    then: MmFingerprint,
    vector: RangeArray,
    advice: int,
    burst: Burst,
    tally: Tally,
) -> int:
    """Advise ranges if the process still runs in that mm; checked before each call.

    Args:
        pidfd: Of the process.
        stat_fd: Its task/PID/stat, open.
        maps_fd: As mm_ended() takes it.
        then: Of the mm.
        vector: The ranges; one that is followed by others is then the last of them.
        advice: The number.
        burst: Which others.
        tally: Where the calls are counted.

    Returns:
        As mm_ended(); the call was made, and is in `tally`, if that is CURRENT.
    """
    return lib.pmadvise_mm_advise(
        pidfd,
        stat_fd,
        maps_fd,
        then.cdata,
        vector.cdata,
        vector.n,
        advice,
        burst.cdata,
        tally.cdata,
    )


def mm_touch(
    stat_fd: int, pid: int, maps_fd: int, then: MmFingerprint, pages: RangeArray
) -> tuple[int, int]:
    """Read a byte of pages if the process still runs in that mm.

    Args:
        stat_fd: Its task/PID/stat, open.
        pid: The process ID, as the caller's pid namespace counts.
        maps_fd: As mm_ended() takes it.
        then: Of the mm.
        pages: A range each, at most TOUCH_MAX.

    Returns:
        As mm_ended(); if CURRENT, the pages read before the first that can't be read,
        or -errno.
    """
    result = ffi.new("int64_t *")
    ended = lib.pmadvise_mm_touch(
        stat_fd, pid, maps_fd, then.cdata, pages.cdata, pages.n, result
    )
    return ended, int(result[0])
