"""File descriptors that a hold keeps while its block runs."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable

# Reentrant: a signal handler or a finalizer that forks may run where it is held.
_fork_lock = threading.RLock()
_open: set[Owned] = set()


class Owned:
    """A file descriptor that is ours for as long as it is still the same file.

    A caller that turns itself into a daemon closes what it has, and what it opens
    then gets the same numbers: those must be neither used nor closed. And a forked
    child is not to keep alive what its parent's end has to release: it closes its
    copies at once.
    """

    __slots__ = ("_fd", "_file")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._file = _file_of(fd)

    @classmethod
    def take(cls, open_fds: Callable[[], tuple[int, ...]]) -> tuple[Owned, ...]:
        """Open descriptors and own them, with no fork between the two."""
        with _fork_lock:
            owned = tuple(cls(_above_stdio(fd)) for fd in open_fds())
            _open.update(owned)
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
    if fd > 2:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
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


def open_at(path: str, flags: int, directory: int) -> Owned:
    """Open and own `path` in an open directory, close-on-exec."""
    (owned,) = Owned.take(lambda: (os.open(path, flags, dir_fd=directory),))
    return owned


def read_at(path: str, directory: int) -> bytes:
    """Return the contents of a small file in an open directory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
    finally:
        os.close(fd)


def _close_in_child() -> None:
    for owned in list(_open):
        owned.close()
    _fork_lock.release()


os.register_at_fork(
    before=_fork_lock.acquire,
    after_in_parent=_fork_lock.release,
    after_in_child=_close_in_child,
)
