"""csrc/descriptor.c: pidfds, and file descriptors that are owned from the start."""

from __future__ import annotations

import os

from pmadvise._native.base import AT_FDCWD, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

PIDFD_NONBLOCK: int = os.O_NONBLOCK
"""Flag of pidfd_open(): waitid(2) on the pidfd does not block. Linux 5.10."""
PIDFD_THREAD: int = os.O_EXCL
"""Flag of pidfd_open(): the pidfd is of a thread, not of a process. Linux 6.9."""


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Return a pidfd, or -errno."""
    return lib.pmadvise_pidfd_open(pid, flags)


def pidfd_info(pidfd: int) -> tuple[int, int]:
    """Return the flags of a pidfd, or -errno, and the process ID as /proc counts.

    The ID is 0 if /proc does not show the process, -1 if that has been reaped.
    """
    pid = ffi.new("int *")
    return lib.pmadvise_pidfd_info(pidfd, pid), pid[0]


def pidfd_send_signal(pidfd: int, number: int) -> int:
    """Send a signal to a process; return 0, or -errno."""
    return lib.pmadvise_pidfd_send_signal(pidfd, number)


class Descriptor:
    """A file descriptor, which is closed when nobody needs it any more.

    The C code stores its number, so that no exception of a signal handler can come
    between the system call and this owner. It can't be copied: two would close it.
    """

    __slots__ = ("__weakref__", "_cdata")

    def __init__(self) -> None:
        # Not by __del__: that is Python code, which a signal handler may interrupt.
        self._cdata: Any = ffi.gc(ffi.new("int *", -1), _close)

    @classmethod
    def open(
        cls, path: str | bytes, directory: int = AT_FDCWD, flags: int = 0
    ) -> Descriptor:
        """Open a file, close-on-exec.

        Args:
            path: Of the file; relative to `directory` if that is given.
            directory: An open file descriptor.
            flags: Of openat(2).

        Raises:
            OSError: It can't be opened.
        """
        self = cls()
        error = lib.pmadvise_descriptor_openat(
            directory, os.fsencode(path), flags, self._cdata
        )
        if error < 0:
            raise OSError(-error, os.strerror(-error), path)
        return self

    def open_process(self, pid: int, flags: int = 0) -> int:
        """Open a pidfd, with flags of pidfd_open(2); return 0, or -errno."""
        return lib.pmadvise_descriptor_pidfd_open(pid, flags, self._cdata)

    def open_proc(self, pidfd: int, pid: int) -> bool:
        """Open the directory /proc/PID of a pidfd's process.

        Returns:
            Whether its last thread has ended: the number may be another's by now.

        Raises:
            OSError: It can't be opened.
        """
        result = lib.pmadvise_descriptor_proc(pidfd, pid, self._cdata)
        if result < 0:
            raise OSError(-result, os.strerror(-result), f"/proc/{pid}")
        return bool(result)

    @classmethod
    def copy_of(cls, fd: int) -> Descriptor:
        """Duplicate a file descriptor; raise OSError if it is not open."""
        self = cls()
        error = lib.pmadvise_descriptor_dup(fd, self._cdata)
        if error < 0:
            raise OSError(-error, os.strerror(-error))
        return self

    @property
    def fd(self) -> int:
        """The number; -1 once it is closed."""
        fd: int = self._cdata[0]
        return fd

    @property
    def filesystem(self) -> int:
        """The magic number of its file system, as in linux/magic.h; or -errno."""
        return lib.pmadvise_descriptor_filesystem(self.fd)

    def close(self) -> None:
        """Close it for all that refer to it; may be called again."""
        _close(self._cdata)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError("a file descriptor can't be copied or pickled")


_close = lib.pmadvise_descriptor_close
