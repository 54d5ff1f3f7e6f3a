"""The address space of a process, and no later one."""

from __future__ import annotations

import errno
import os
from typing import Literal

from pmadvise._native import mm as _mm
from pmadvise._native.maps import VmaArray
from pmadvise._native.procmap_query import procmap_vmas
from pmadvise._native.ranges import RangeArray
from pmadvise._native.read import Text, read_text
from pmadvise._proc.identity import Identity
from pmadvise._proc.pidfds import pid_of

Fate = Literal["exec", "exited", "refused"]
"""What became of an address space: "refused" is that it can no longer be known."""

_FATES: dict[int, Fate] = {
    _mm.EXEC: "exec",
    _mm.EXITED: "exited",
    _mm.REFUSED: "refused",
}


class Mm:
    """The address space that a process had when this was opened, and no later one.

    An open /proc/PID/maps belongs to the mm that it was opened on for ever: it tells an
    exec, which the pidfd lives through. It does not tell one when others share the mm
    (the child of a vfork(2) that has not yet exec'd); there /proc/PID/stat does.

    Args:
        identity: Of the process; borrowed.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone, or has no memory.
    """

    __slots__ = ("_fd", "_mark", "_pid", "identity")

    def __init__(self, identity: Identity) -> None:
        self.identity, self._fd = identity, -1
        self._pid = pid_of(identity.pidfd)
        # In this order, so that an exec between the two is seen.
        try:
            self._mark = _mm.Mark(identity.proc, self._pid)
        except (FileNotFoundError, ProcessLookupError):
            raise identity.gone("the process has exited") from None
        self._fd = identity.open_file("maps")
        if self.ended() is not None:
            self.close()
            raise identity.gone()

    def fileno(self) -> int:
        """Return the file descriptor of maps."""
        if self._fd < 0:
            raise ValueError("the Process of this address space is closed")
        return self._fd

    def ended(self) -> Fate | None:
        """Return what became of it: None while the process runs in it.

        Raises:
            OSError: No file descriptor is free to look.
        """
        fd, identity = self.fileno(), self.identity
        result = _mm.mm_ended(identity.proc, self._pid, fd, self._mark)
        return self.fate(result)

    def fate(self, result: int) -> Fate | None:
        """Return what a result of the C functions means; raise OSError for -errno."""
        if result < 0:
            text = f"/proc/{self._pid}/task/{self._pid}/stat: {os.strerror(-result)}"
            raise OSError(-result, text)
        return _FATES.get(result)

    def is_current(self) -> bool:
        """Return whether the process is known to run in it."""
        return self.ended() is None

    def advise(self, vector: RangeArray, advice: int, tally: _mm.Tally) -> int:
        """Advise ranges if the process still runs in it; nothing stands in between.

        Returns:
            What fate() takes; the call was made, and is in `tally`, if that is None.
        """
        identity = self.identity
        return _mm.mm_advise(
            identity.pidfd,
            identity.proc,
            self._pid,
            self.fileno(),
            self._mark,
            vector,
            advice,
            tally,
        )

    def open_file(self, name: str) -> int:
        """Open a file of /proc/PID that is of this mm, and of no later one.

        Raises:
            PermissionError: A right is missing.
            ProcessLookupError: The process no longer runs in it.
        """
        self.fileno()
        fd = self.identity.open_file(name)
        # Opened while the mm was the current one, so it is of that mm.
        fate = self.ended()
        if fate is None:
            return fd
        os.close(fd)
        if fate == "refused":
            raise self.identity.refusal(name, errno.EACCES)
        raise self.identity.gone()

    def read_vmas(self) -> VmaArray:
        """Return the VMAs as they are now; of no mm that came later.

        By a file of its own: the kernel keeps a place in the text for each open file,
        and where threads, or a fork, read by the same one, it counts through the VMAs
        anew, into the middle of a line when they have changed.

        Raises:
            PermissionError: A right is missing.
            ProcessLookupError: The process no longer runs in it.
        """
        fd = self.open_file("maps")
        try:
            return VmaArray.parse(read_text(fd))
        except ProcessLookupError:
            raise self.identity.gone() from None
        finally:
            os.close(fd)

    def vmas_of(self, merged: RangeArray) -> VmaArray:
        """Return the VMAs that merged ranges touch, as they are now.

        Raises:
            OSError: As read_vmas().
        """
        try:
            return procmap_vmas(self.fileno(), merged)
        except ProcessLookupError:
            raise self.identity.gone() from None
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
        return self.read_vmas()  # before Linux 6.11

    def close(self) -> None:
        """Close the file descriptor; may be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        """Close an Mm replaced after an exec, when its last snapshot has gone."""
        self.close()


def open_mm(identity: Identity) -> Mm:
    """Open the address space that a process has now.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone, or has no memory.
    """
    why = identity.why_no_mm() if identity.has_ended() else None
    while why is None:
        try:
            return Mm(identity)
        except ProcessLookupError:
            why = identity.why_no_mm()  # None: it exec'd meanwhile
    raise identity.gone(why)


def no_vmas() -> VmaArray:
    """Return an array of no VMAs: those of an mm that is no more."""
    return VmaArray.parse(Text.of(b""))
