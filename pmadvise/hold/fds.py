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

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._file = _file_of(fd)

    @classmethod
    def open_all(cls, open_fds: Callable[[], tuple[int, ...]]) -> tuple[OwnedFd, ...]:
        """Open descriptors and own them, with no fork between the two."""
        with _fork_lock:
            _watch_forks()
            owned = tuple(cls(_above_stdio(fd)) for fd in open_fds())
            _open.update(owned)
        return owned

    @classmethod
    def copy(cls, fd: int) -> OwnedFd:
        """Own a copy of a descriptor of somebody else."""
        (owned,) = cls.open_all(lambda: (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3),))
        return owned

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


def _above_stdio(fd: int) -> int:
    """Return a number that nobody takes for stdin, stdout or stderr."""
    if fd > _STDERR:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    os.close(fd)
    return moved


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
