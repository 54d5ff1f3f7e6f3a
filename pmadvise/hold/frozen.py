"""Frozen cgroups, which the holds of several processes may share."""

from __future__ import annotations

import errno
import functools
import os
import threading

from pmadvise._proc.cgroups import VERSIONS
from pmadvise._proc.files import lines, read_in
from pmadvise.hold.deadline import Deadline
from pmadvise.hold.fds import OwnedFd
from pmadvise.hold.watchdog import Watchdog

_Key = tuple[int, int]


class FrozenCgroup:
    """A frozen cgroup, with a watchdog that thaws it if the caller is killed.

    Args:
        version: Of the cgroup interface.
        fd: File descriptor of its directory; lent until ``freeze()`` is over.
    """

    def __init__(self, version: int, fd: int) -> None:
        self._names = VERSIONS[version]
        self._fd = fd
        self._directory: OwnedFd | None = None
        self._control: OwnedFd | None = None
        self._watchdog: Watchdog | None = None

    def freeze(self, deadline: Deadline) -> None:
        """Freeze the cgroup, if it is not."""
        self._directory = OwnedFd.copy(self._fd)
        names, directory = self._names, self._directory.fd
        if read_in(directory, names.own).strip() != b"1":
            self._control = OwnedFd.open(
                lambda: os.open(names.control, os.O_WRONLY, dir_fd=directory)
            )
            self._watchdog = Watchdog(self._control.fd, names.thaw.decode())
            self._watchdog.start(deadline)
            os.write(self._control.fd, names.freeze)
        for _ in deadline.pauses():
            if self._is_frozen():
                return
        raise TimeoutError(errno.ETIMEDOUT, "the cgroup did not freeze in time")

    def _is_frozen(self) -> bool:
        directory = -1 if self._directory is None else self._directory.fd
        return self._names.is_frozen in lines(read_in(directory, self._names.state))

    def broken(self) -> str | None:
        """Return why it may not have been frozen all the time, None if it was."""
        try:
            if not self._is_frozen():
                return "the cgroup was thawed from elsewhere"
        except FileNotFoundError:
            return None  # removed, so nobody is left in it
        except OSError as error:
            return None if error.errno == errno.ENODEV else str(error)
        return self._watchdog.broken() if self._watchdog is not None else None

    def release(self) -> None:
        """Restore what was asked of the cgroup before, and dismiss the watchdog."""
        if self._control is not None and (fd := self._control.fd) >= 0:
            try:
                os.write(fd, self._names.thaw)
            except OSError as error:
                if error.errno != errno.ENODEV:  # it is removed
                    raise
            self._control.close()
        if self._watchdog is not None:
            self._watchdog.dismiss()
        if self._directory is not None:
            self._directory.close()


class _Entry:
    """A cgroup and its users; the lock is held while it is frozen and thawed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users: set[object] = set()
        self.frozen: FrozenCgroup | None = None


# Only threads of holds take these locks, and no signal handler runs there.
_locks = [threading.Lock()]
_entries: dict[_Key, _Entry] = {}


def join(
    key: _Key, user: object, version: int, fd: int, deadline: Deadline
) -> FrozenCgroup:
    """Return a cgroup that is frozen: by others, or now.

    One that was broken from outside is frozen anew. Whatever this raises, the user
    calls ``leave()``.

    Args:
        key: Of the cgroup.
        user: Will ``leave()``.
        version: Of the cgroup interface.
        fd: File descriptor of its directory; lent.
        deadline: For all of it.

    Raises:
        PermissionError: It can't be frozen, or no watchdog can run.
        TimeoutError: It was not frozen in time, or others were busy with it.
    """
    _forget_in_children()
    with _locks[0]:
        entry = _entries.setdefault(key, _Entry())
        entry.users.add(user)
    wait = min(max(deadline.left(), 0), threading.TIMEOUT_MAX)
    if not entry.lock.acquire(timeout=wait):
        raise TimeoutError(errno.ETIMEDOUT, "others are freezing the cgroup")
    try:
        if entry.frozen is not None and entry.frozen.broken():
            entry.frozen.release()
            entry.frozen = None
        if entry.frozen is None:
            entry.frozen = FrozenCgroup(version, fd)
            entry.frozen.freeze(deadline)
        return entry.frozen
    except BaseException:
        if entry.frozen is not None:
            entry.frozen.release()
            entry.frozen = None
        raise
    finally:
        entry.lock.release()


def leave(key: _Key, user: object) -> None:
    """Give up a user's part: the last one thaws the cgroup; may be called again."""
    entry = _entries.get(key)
    if entry is None or user not in entry.users:
        return
    with entry.lock:
        if entry.users == {user} and entry.frozen is not None:
            entry.frozen.release()
            entry.frozen = None
        with _locks[0]:
            entry.users.discard(user)
            if not entry.users and entry.frozen is None:
                _entries.pop(key, None)


@functools.cache
def _forget_in_children() -> None:
    """Forget the parent's cgroups in every child forked from now on."""
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    _entries.clear()
    _locks[:] = [threading.Lock()]  # the thread that may hold it is not in the child
