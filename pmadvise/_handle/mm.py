"""The address space of a process, and no later one."""

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
from pmadvise._proc.files import read_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    MmEnd = Literal["exec", "exited", "refused"]
else:
    MmEnd = str  # to import typing takes longer than most of the rest
"""The end of an address space; "refused": permission was lost, so it is unknown."""

_ENDS: dict[int, MmEnd] = {
    _mm.EXEC: "exec",
    _mm.EXITED: "exited",
    _mm.REFUSED: "refused",
}


_LOOKS = 50
"""Milliseconds that the exec of a thread may take to replace the leader."""


@functools.cache
def _host_randomizes() -> bool:
    """Return whether the kernel randomizes address spaces; looked at once."""
    return bool(read_int("/proc/sys/kernel/randomize_va_space"))


class Mm:
    """The address space that a process had when this was made, and no later one.

    Two things show an exec, which the pidfd lives through: start_code, start_stack and
    PF_FORKNOEXEC of /proc/PID/stat, which cost no descriptor; and an open maps, which
    is opened when it is needed and stays open as long as somebody has it (an
    AddressSpace, an advise()). The first alone does not show a program that execs
    itself without address space randomization and with arguments of the same size:
    where that can't be ruled out, maps stays open. The second does not show an exec
    when others share the old mm, as the parent of a vfork(2) child does.

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
        lent, proc = identity.lend(), identity.proc
        try:
            self._fingerprint = _mm.MmFingerprint(proc, self._pid)
        except (FileNotFoundError, ProcessLookupError):
            raise identity.gone("the process has exited") from None
        finally:
            del lent
        if not self._fingerprint.has_mm:
            raise identity.gone()
        if not self._fingerprint.is_readable:
            raise identity.refusal("maps", errno.EACCES)
        self._kept: Descriptor | None = None
        if not (_host_randomizes() and _mm.mm_is_random(identity.proc)):
            self._kept = self.file()

    def file(self) -> Descriptor:
        """Return an open maps of this mm, which lives as long as somebody has it.

        Raises:
            PermissionError: ptrace read access is missing.
            ProcessLookupError: The process no longer runs in this mm.
        """
        file = self._open_one()
        if file is None:
            file = self.identity.open_file("maps")
            self._require_current(file.fd, "maps")
            self._file = weakref.ref(file)
        return file

    def _open_one(self) -> Descriptor | None:
        return self._file() if self._file is not None else None

    def _require_current(self, fd: int, name: str) -> None:
        """Raise unless the process runs in this mm, and in that of `fd` (-1: none)."""
        identity, end = self.identity, self._end_by(fd)
        if end == "refused":
            raise identity.refusal(name, errno.EACCES)
        if end is not None:
            raise identity.gone()

    def ended(self) -> MmEnd | None:
        """Return how it ended, None while the process runs in it.

        Raises:
            OSError: No file descriptor is free to look.
        """
        file = self._open_one()
        return self._end_by(file.fd if file is not None else -1)

    def _end_by(self, fd: int) -> MmEnd | None:
        lent, proc = self.identity.lend(), self.identity.proc
        try:
            return self.end_of(_mm.mm_ended(proc, self._pid, fd, self._fingerprint))
        finally:
            del lent

    def end_of(self, result: int) -> MmEnd | None:
        """Return what a result of the C functions means; raise OSError for -errno."""
        if result < 0:
            text = f"/proc/{self._pid}/task/{self._pid}/stat: {os.strerror(-result)}"
            raise OSError(-result, text)
        if result == _mm.EXITED:
            result = self._settled()
        return _ENDS.get(result)

    def _settled(self) -> int:
        """Look again where the leader seems to have exited.

        While a thread that is not the leader execs, the leader dies, and the thread
        takes its place.
        """
        identity, result = self.identity, _mm.EXITED
        for _ in range(_LOOKS):
            if identity.has_ended(1):
                break
            result = _mm.mm_ended(identity.proc, self._pid, -1, self._fingerprint)
            if result != _mm.EXITED:
                break
        return result if result > 0 else _mm.EXITED

    def open_file(self, name: str, look: bool = True) -> Descriptor:
        """Open a file of /proc/PID that is of this mm, and of no later one.

        Args:
            name: Of the file.
            look: Whether the process still runs in this mm. False: the caller looks
                before it uses the contents, once for several files.

        Raises:
            PermissionError: A right is missing.
            ProcessLookupError: The process no longer runs in it.
        """
        opened = self.identity.open_file(name)
        if not look:
            return opened
        try:
            # Opened while the mm was the current one, so it is of that mm.
            file = self._open_one()
            self._require_current(file.fd if file is not None else -1, name)
        except BaseException:
            opened.close()  # the traceback has it still
            raise
        return opened

    def read_vmas(self, look: bool = True) -> VmaArray:
        """Return the VMAs as they are now; of no mm that came later: see open_file().

        By a file of its own: the kernel keeps a place in the text for each open file,
        and where threads, or a fork, read by the same one, it counts through the VMAs
        anew, into the middle of a line when they have changed.

        Raises:
            PermissionError: A right is missing.
            ProcessLookupError: The process no longer runs in it.
        """
        file = self.open_file("maps", look)
        try:
            return VmaArray.read(file.fd)
        except ProcessLookupError:
            raise self.identity.gone() from None
        finally:
            file.close()

    def vmas_of(self, merged: RangeArray) -> VmaArray:
        """Return the VMAs that merged ranges touch, as they are now.

        Raises:
            OSError: As read_vmas().
        """
        file = self.file()
        try:
            return procmap_vmas(file.fd, merged)
        except ProcessLookupError:
            raise self.identity.gone() from None
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
        return self.read_vmas()  # before Linux 6.11


def open_mm(identity: Identity) -> Mm:
    """Open the address space that a process has now.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone, or has no memory.
    """
    ended = identity.is_hidden and identity.has_ended()
    why = "the process has exited" if ended else None
    while why is None:
        try:
            return Mm(identity)
        except ProcessLookupError:
            why = identity.why_no_mm()  # None: it exec'd meanwhile
    raise identity.gone(why)
