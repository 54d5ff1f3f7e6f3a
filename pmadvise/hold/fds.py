"""File descriptors and tables of this process alone: a forked child has none of them.

``fork_lock`` is held across every fork, so that what it guards is whole in the child.
"""

from __future__ import annotations

import _thread
import fcntl
import functools
import os
from collections.abc import Callable

from pmadvise._native.base import original
from pmadvise._origin import own

_STDERR = 2

fork_lock = original(_thread).RLock()
"""Reentrant: a finalizer that forks may run while it is held."""


@functools.cache
def forget_in_children(forget: Callable[[], object]) -> None:
    """Call `forget` in every child forked from now on, while ``fork_lock`` is held."""
    os.register_at_fork(
        before=fork_lock.acquire,
        after_in_parent=fork_lock.release,
        after_in_child=functools.partial(_forget, forget),
    )


def _forget(forget: Callable[[], object]) -> None:
    try:
        forget()
    finally:
        fork_lock.release()


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
        with fork_lock:
            forget_in_children(_close_all)
            _open_fds.add(owned)
            # Nothing that takes memory stands between these two.
            owned._fd = open_fd()
            owned._identify()
        return owned

    @classmethod
    def pipe(cls, flags: int) -> tuple[OwnedFd, OwnedFd]:
        """Open a pipe and own both ends: the one to read from, the one to write to."""
        ends = reader, writer = cls(), cls()
        with fork_lock:
            forget_in_children(_close_all)
            _open_fds.update(ends)
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
        """Own a copy of another owner's descriptor."""
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
        _open_fds.discard(self)
        if fd >= 0:
            os.close(fd)

    @property
    def fd(self) -> int:
        """The number, or -1 when the descriptor is no longer ours."""
        return self._fd if self._file == _file_of(self._fd) else -1

    def close(self) -> None:
        """Close the descriptor, if it is ours; may be called again."""
        with fork_lock:
            fd, self._fd = self.fd, -1
            _open_fds.discard(self)
            if fd >= 0:
                os.close(fd)


_open_fds: set[OwnedFd] = set()


def _close_all() -> None:
    for owned in list(_open_fds):
        owned.close()


def _file_of(fd: int) -> tuple[int, int] | None:
    """Return device and inode of an open file, None if there is none."""
    if fd < 0:
        return None
    try:
        status = os.fstat(fd)
    except own(OSError):
        return None
    return status.st_dev, status.st_ino
