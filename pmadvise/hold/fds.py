"""File descriptors that a hold keeps while its block runs."""

from __future__ import annotations

import fcntl
import functools
import os
import threading
from collections.abc import Callable

_STDERR = 2
# Reentrant: a finalizer that forks may run where it is held.
_fork_lock = threading.RLock()
_open: set[OwnedFd] = set()


class OwnedFd:
    """A file descriptor that is ours for as long as it is still the same file.

    A caller that becomes a daemon closes every descriptor, and files that it opens
    afterwards get the same numbers: those must be neither used nor closed. A forked
    child closes its copies immediately, so that the descriptors are released when
    the parent dies.
    """

    __slots__ = ("_fd", "_file")

    def __init__(self) -> None:
        self._fd = -1
        self._file: tuple[int, int] | None = None

    @classmethod
    def open(cls, open_fd: Callable[[], int]) -> OwnedFd:
        """Open a descriptor and own it, with no fork between the two."""
        owned = cls()
        with _fork_lock:
            _watch_forks()
            _open.add(owned)
            # Nothing that takes memory stands between these two.
            owned._fd = open_fd()
            owned._identify()
        return owned

    @classmethod
    def pipe(cls, flags: int) -> tuple[OwnedFd, OwnedFd]:
        """Open a pipe and own both ends: that to read from, that to write to."""
        ends = reader, writer = cls(), cls()
        with _fork_lock:
            _watch_forks()
            _open.update(ends)
            reader._fd, writer._fd = os.pipe2(flags | os.O_CLOEXEC)
            try:
                reader._identify()
                writer._identify()
            except BaseException:
                reader._drop()
                writer._drop()
                raise
        return ends

    @classmethod
    def copy(cls, fd: int) -> OwnedFd:
        """Own a copy of a descriptor of somebody else."""
        return cls.open(lambda: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1))

    def _identify(self) -> None:
        """Note which file it is; move it from the numbers of the standard files."""
        try:
            if self._fd <= _STDERR:
                low = self._fd
                self._fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
                os.close(low)
            self._file = _file_of(self._fd)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        """Close a descriptor that has just been opened."""
        fd, self._fd = self._fd, -1
        _open.discard(self)
        if fd >= 0:
            os.close(fd)

    @property
    def fd(self) -> int:
        """The number, or -1 when the descriptor is no longer ours."""
        return self._fd if self._file == _file_of(self._fd) else -1

    def close(self) -> None:
        """Close the descriptor, if it is ours; may be called again."""
        with _fork_lock:
            fd, self._fd = self.fd, -1
            _open.discard(self)
            if fd >= 0:
                os.close(fd)


def _file_of(fd: int) -> tuple[int, int] | None:
    if fd < 0:
        return None
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@functools.cache
def _watch_forks() -> None:
    """Close what is open in every child forked from now on."""
    os.register_at_fork(
        before=_fork_lock.acquire,
        after_in_parent=_fork_lock.release,
        after_in_child=_close_in_child,
    )


def _close_in_child() -> None:
    for owned in list(_open):
        owned.close()
    _fork_lock.release()
