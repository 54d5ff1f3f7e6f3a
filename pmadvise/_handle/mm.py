"""Mm: the address space of a process, and never a later one."""

from __future__ import annotations

import errno
import functools
import os
import weakref

from pmadvise._handle.identity import Identity
from pmadvise._native import mm as _mm
from pmadvise._native.descriptor import Descriptor
from pmadvise._native.maps import VmaArray
from pmadvise._native.procmap_query import procmap_vmas
from pmadvise._native.ranges import RangeArray
from pmadvise._origin import own
from pmadvise._proc.files import read_int
from pmadvise._reasons.idle import tracked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    MmEnd = Literal["exec", "exited", "refused"]
else:
    MmEnd = str  # importing typing takes longer than most of the rest
"""The end of an address space; "refused": permission was lost, and it is unknown."""

_ENDS: dict[int, MmEnd] = {
    _mm.EXEC: "exec",
    _mm.EXITED: "exited",
    _mm.REFUSED: "refused",
}

_EXEC_MILLISECONDS = 50
"""The longest time in which the exec of a thread replaces the leader."""


@functools.cache
def _host_randomizes() -> bool:
    """Return whether the kernel randomizes address spaces; read once."""
    return bool(read_int("/proc/sys/kernel/randomize_va_space"))


class Mm:
    """The address space that a process had when this object was made.

    A pidfd survives an exec. Two facts detect it: start_code, start_stack and
    PF_FORKNOEXEC of /proc/PID/stat, which need no descriptor; and an open maps file,
    which is opened on demand and stays open while an object uses it (an AddressSpace,
    an advise()). The first alone misses a program that execs itself without address
    space randomization and with arguments of the same size: where that is possible,
    maps stays open. The second misses an exec while another process shares the old mm,
    such as the parent of a vfork(2) child.

    Args:
        identity: Of the process; borrowed.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone, or has no memory.
    """

    __slots__ = ("_file", "_fingerprint", "_kept", "_pid", "identity")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._file: weakref.ref[Descriptor] | None = None
        self._pid = identity.number
        self._kept: Descriptor | None = None
        with identity.pin():
            self._read(identity.proc)

    def _read(self, proc: int) -> None:
        identity = self.identity
        try:
            self._fingerprint = _mm.MmFingerprint(proc, self._pid)
        except own(FileNotFoundError, ProcessLookupError):
            raise identity.gone("the process has exited") from None
        if not self._fingerprint.has_mm:
            raise identity.gone()
        if not self._fingerprint.is_readable:
            raise identity.refusal("maps", errno.EACCES)
        if not (_host_randomizes() and _mm.mm_is_random(proc)):
            self._kept = self.file()

    def file(self) -> Descriptor:
        """Return an open maps file of this mm; it is closed when nothing refers to it.

        Raises:
            PermissionError: ptrace read access is missing.
            ProcessLookupError: The process no longer has this mm.
        """
        file = self._open_maps()
        if file is not None:
            return file
        with self.identity.pin():
            file = self.identity.open_file("maps")
            self.identity.close_with_this(file)
            self._require_current(file, "maps")
        self._file = weakref.ref(file)
        return file

    def _open_maps(self) -> Descriptor | None:
        return self._file() if self._file is not None else None

    def _require_current(self, maps: Descriptor | None, name: str) -> None:
        """Raise unless the process still has this mm, and that of `maps`."""
        identity, end = self.identity, self._end_by(maps)
        if end == "refused":
            raise identity.refusal(name, errno.EACCES)
        if end is not None:
            raise identity.gone()

    def ended(self) -> MmEnd | None:
        """Return how this mm ended; None while the process has it.

        Raises:
            OSError: No file descriptor is free for the check.
        """
        return self._end_by(self._open_maps())

    def _end_by(self, maps: Descriptor | None) -> MmEnd | None:
        with self.identity.pin():
            proc, fd = self.identity.proc, -1 if maps is None else maps.fd
            return self.end_of(_mm.mm_ended(proc, self._pid, fd, self._fingerprint))

    def end_of(self, result: int) -> MmEnd | None:
        """Return the end that a C function reported, under a pin.

        Raises:
            OSError: The result is -errno.
        """
        if result < 0:
            text = f"/proc/{self._pid}/task/{self._pid}/stat: {os.strerror(-result)}"
            raise OSError(-result, text)
        if result == _mm.EXITED:
            result = self._check_again()
        return _ENDS.get(result)

    def _check_again(self) -> int:
        """Return the result of later checks if the leader seems to have exited.

        While a thread that is not the leader execs, the leader dies, and the thread
        takes its place.
        """
        identity, result = self.identity, _mm.EXITED
        for _ in range(_EXEC_MILLISECONDS):
            if identity.wait(0.001):
                break
            result = _mm.mm_ended(identity.proc, self._pid, -1, self._fingerprint)
            if result != _mm.EXITED:
                break
        return result if result > 0 else _mm.EXITED

    def open_file(self, name: str, verify: bool = True) -> Descriptor:
        """Open a file of /proc/PID that shows this mm, and never a later one.

        Args:
            name: Of the file.
            verify: Check after opening that the process still has this mm. False: the
                caller checks before it uses the contents, once for several files.

        Raises:
            PermissionError: A right is missing.
            ProcessLookupError: The process no longer has this mm.
        """
        opened = self.identity.open_file(name)
        if not verify:
            return opened
        try:
            # If the mm is still the current one, the file was opened for it.
            self._require_current(self._open_maps(), name)
        except BaseException:
            opened.close()  # the traceback refers to it
            raise
        return opened

    def claim(self) -> Descriptor:
        """Be the only one to clear its accessed bits, until what is returned is closed.

        By a lock, flock(2), of /proc/PID/clear_refs, which this package respects in all
        processes that see this /proc.

        Raises:
            PermissionError: A right is missing.
            ProcessLookupError: The process no longer has this mm.
            OSError: Somebody else has it (EBUSY).
        """
        import fcntl  # noqa: PLC0415 - not all need it

        file = self.identity.open_file("clear_refs", os.O_WRONLY)
        try:
            self._require_current(self._open_maps(), "clear_refs")
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except own(BlockingIOError):
            file.close()
            raise tracked().error(f"process {self.identity.pid}") from None
        except BaseException:
            file.close()  # the traceback refers to it
            raise
        return file

    def read_vmas(self, verify: bool = True) -> VmaArray:
        """Return the present VMAs of this mm; `verify` as open_file() takes it.

        maps is opened each time: the kernel keeps a read position per open file, and a
        position that threads or a fork share would resume inside a line after the VMAs
        changed.

        Raises:
            PermissionError: A right is missing.
            ProcessLookupError: The process no longer has this mm.
        """
        file = self.open_file("maps", verify)
        try:
            return VmaArray.read(file.fd)
        except own(ProcessLookupError):
            raise self.identity.gone() from None
        finally:
            file.close()

    def vmas_of(self, merged: RangeArray) -> VmaArray:
        """Return the present VMAs that overlap merged ranges.

        Raises:
            OSError: As read_vmas().
        """
        try:
            with self.identity.pin():
                return procmap_vmas(self.file().fd, merged)
        except own(ProcessLookupError):
            raise self.identity.gone() from None
        except own(OSError) as error:
            if error.errno != errno.ENOTTY:
                raise
        return self.read_vmas()  # before Linux 6.11


def open_mm(identity: Identity) -> Mm:
    """Return the present address space of a process.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone, or has no memory.
    """
    ended = identity.is_hidden and identity.has_ended()
    why = "the process has exited" if ended else None
    while why is None:
        try:
            return Mm(identity)
        except own(ProcessLookupError):
            why = identity.why_no_mm()  # None: the process has exec'd
    raise identity.gone(why)
