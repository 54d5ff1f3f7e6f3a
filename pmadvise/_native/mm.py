"""csrc/mm.c: which mm a process runs in, and advice to that one alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from pmadvise._native.base import check, ffi, lib
from pmadvise._native.ranges import RangeArray

CURRENT: int = lib.PMADVISE_MM_CURRENT
EXEC: int = lib.PMADVISE_MM_EXEC
EXITED: int = lib.PMADVISE_MM_EXITED
REFUSED: int = lib.PMADVISE_MM_REFUSED


class Mark:
    """A native ``struct pmadvise_mm``: tells the mm of a process from the one before.

    Args:
        proc: File descriptor of the directory /proc/PID.
        pid: The process ID, as that /proc counts.

    Raises:
        OSError: ENOENT or ESRCH, the process has gone.
    """

    __slots__ = ("cdata",)

    def __init__(self, proc: int, pid: int) -> None:
        self.cdata: Any = ffi.new("struct pmadvise_mm *")
        check(lib.pmadvise_mm_read(proc, pid, self.cdata), f"task/{pid}/stat")

    @property
    def has_mm(self) -> bool:
        """Whether the process has an address space."""
        return bool(self.cdata.start_code)


class Call(NamedTuple):
    """A struct pmadvise_call; see csrc/pmadvise.h."""

    ended: int
    """CURRENT if the call was made; else EXEC, EXITED, REFUSED, or -errno."""
    result: int
    """Bytes of whole ranges advised, or -errno."""
    seconds: float


def mm_ended(proc: int, pid: int, maps_fd: int, mark: Mark) -> int:
    """Return CURRENT, EXEC, EXITED or REFUSED, or -errno."""
    return lib.pmadvise_mm_ended(proc, pid, maps_fd, mark.cdata)


def mm_advise(
    pidfd: int,
    proc: int,
    pid: int,
    maps_fd: int,
    mark: Mark,
    vector: RangeArray,
    advice: int,
) -> Call:
    """Advise ranges if the process still runs in that mm; looked at just before."""
    call = ffi.new("struct pmadvise_call *")
    lib.pmadvise_mm_advise(
        pidfd, proc, pid, maps_fd, mark.cdata, vector.cdata, vector.n, advice, call
    )
    return Call(call.ended, call.result, call.nanoseconds * 1e-9)
