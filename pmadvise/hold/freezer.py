"""The method "freezer": a frozen cgroup (v2 cgroup.freeze, v1 freezer.state)."""

from __future__ import annotations

import _thread
import errno
import os
from typing import ClassVar

from pmadvise import _reasons
from pmadvise._native.base import original
from pmadvise._proc.cgroup_tree import CgroupWalk, pids_in
from pmadvise._proc.cgroups import (
    VERSIONS,
    Membership,
    directories,
    hierarchies,
    hierarchies_of,
    memberships,
)
from pmadvise._proc.files import exists, lines, read_in
from pmadvise.hold.fds import OwnedFd, forget_in_children, fork_lock
from pmadvise.hold.stop import Deadline
from pmadvise.hold.target import DESCRIPTORS_CLOSED, HeldProcess
from pmadvise.hold.watchdog import Watchdog

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_Key = tuple[int, int]
"""Device and inode of a cgroup's directory."""


class FreezerStop:
    """The target's cgroup, frozen; left as it is if it was frozen before.

    Raises:
        PermissionError: There is no freezer for its cgroup alone, or the kernel refuses
            to use it, or nothing could thaw it if the caller were killed.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not freeze in time.
    """

    method: ClassVar[str] = "freezer"

    def __init__(self, target: HeldProcess) -> None:
        self._target = target
        self._frozen: FrozenCgroup | None = None
        self._key: _Key = 0, 0
        self._membership: Membership | None = None

    def stop(self, deadline: Deadline) -> None:
        """Freeze the cgroup, if it is not: of v2, or else of v1."""
        reasons: list[str] = []
        not_mounted: list[str] = []
        mounted = hierarchies()
        for membership in self._memberships():
            self._membership = membership
            is_shown = False
            for path in directories(membership, self._target.pid, mounted):
                directory = os.fsdecode(path)
                if not exists(directory):  # covered by another mount
                    continue
                is_shown = True
                try:
                    return self._freeze(membership.version, directory, deadline)
                except (TimeoutError, ProcessLookupError):
                    raise
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        raise
                    reasons.append(f"{directory}: {error.strerror}")
                    self._leave()
            if not is_shown:
                is_mounted = bool(hierarchies_of(membership, mounted))
                no = _reasons.no_cgroup(membership.path, is_mounted)
                (reasons if is_mounted else not_mounted).append(str(no))
        self._target.check_alive()
        raise self._target.refusal(
            "; ".join(reasons or not_mounted[:1]) or "the kernel has no cgroup freezer"
        )

    def _memberships(self) -> list[Membership]:
        try:
            return [m for m in memberships(self._target.proc) if m.can_freeze]
        except (ProcessLookupError, FileNotFoundError):
            raise self._target.ended() from None

    def _freeze(self, version: int, directory: str, deadline: Deadline) -> None:
        cgroup = OwnedFd.open(lambda: os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
        try:
            self._check_company(version, cgroup.fd, deadline)
            status = os.fstat(cgroup.fd)
            self._key = status.st_dev, status.st_ino
            self._frozen = _join(self._key, self, version, cgroup.fd, deadline)
            # A process that came in the meantime, or a thread elsewhere, shows now.
            self._check_company(version, cgroup.fd, deadline)
            tids = set(read_in(cgroup.fd, VERSIONS[version].threads).split())
            if not all(b"%d" % t.tid in tids for t in self._target.threads()):
                raise _refusal("some of its threads are in another cgroup")
        except TimeoutError:
            raise self._target.late(self.method) from None
        finally:
            cgroup.close()

    def _leave(self) -> None:
        _leave(self._key, self)
        self._frozen = None

    def _check_company(self, version: int, fd: int, deadline: Deadline) -> None:
        """Raise PermissionError unless the cgroup may be frozen for the target."""
        try:
            os.stat(VERSIONS[version].control, dir_fd=fd)
            pids_in(fd)  # raises, of a threaded one
            walk = CgroupWalk(fd, deadline.left())
            processes = {pid for below in walk for pid in walk.pids(below)}
        except FileNotFoundError:
            raise _refusal(
                "the root cgroup has no freezer: move the process to another"
            ) from None
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise _refusal(
                    "the cgroup is threaded: it lists no processes"
                ) from None
            raise
        if os.getpid() in processes:
            raise _refusal("the caller itself is in the cgroup: move either to another")
        if self._target.pid not in processes:
            # The kernel takes a process out when its last thread begins to exit.
            if self._target.leader_is_exiting():
                raise self._target.ended()
            raise _refusal("it is in another cgroup, or was moved meanwhile: try again")
        if walk.left_out:
            raise _refusal(f"who else is in the cgroups below it: {walk.left_out}")
        others = len(processes) - 1
        if others and not self._target.whole_cgroup:
            raise _refusal(
                f"{others} other {'process is' if others == 1 else 'processes are'} in "
                "the cgroup: set whole_cgroup to freeze all of them"
            )

    def broken(self) -> str | None:
        """Return why the target may have run, None if it did not."""
        if self._target.proc < 0:
            return DESCRIPTORS_CLOSED
        if self._target.is_dead():
            return None
        if self._membership not in self._memberships():
            return "it was moved to another cgroup"
        return self._frozen.broken() if self._frozen is not None else None

    def is_over(self) -> bool:
        """Return False: a target that died is reaped all the same."""
        return False

    def reap(self) -> None:
        """Do nothing: to freeze a cgroup never blocks."""

    def release(self) -> None:
        """Leave the cgroup: the last to leave restores it."""
        self._leave()
        self._target.close()


def _refusal(reason: str) -> PermissionError:
    return PermissionError(errno.EPERM, reason)


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
        """Freeze the cgroup, if it is not.

        Once more if somebody thaws it meanwhile, as the watchdog of a caller does that
        was killed a moment ago.
        """
        self._directory = OwnedFd.copy(self._fd)
        for _ in deadline.pauses():
            if read_in(self._directory.fd, self._names.own).strip() != b"1":
                os.write(self._controlled(deadline), self._names.freeze)
            if self._is_frozen():
                return
        raise TimeoutError(errno.ETIMEDOUT, "the cgroup did not freeze in time")

    def _controlled(self, deadline: Deadline) -> int:
        """Return the descriptor that freezes it, which a watchdog has by now."""
        if self._control is None:
            self._control = OwnedFd.open(
                lambda: os.open(self._names.control, os.O_WRONLY, dir_fd=self._fd)
            )
            self._watchdog = Watchdog(self._control.fd, self._names.thaw.decode())
            self._watchdog.start(deadline)
        return self._control.fd

    def _is_frozen(self) -> bool:
        directory = -1 if self._directory is None else self._directory.fd
        return self._names.is_frozen in lines(read_in(directory, self._names.state))

    def broken(self) -> str | None:
        """Return why it may not have been frozen all the time, None if it was."""
        try:
            if not self._is_frozen():
                return "the cgroup was thawed from elsewhere"
        except FileNotFoundError:
            return None  # removed, so no process is left in it
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


class _SharedCgroup:
    """A cgroup and the stops that use it; `lock` is held to freeze and to thaw it."""

    def __init__(self) -> None:
        self.lock: _thread.LockType = original(_thread).allocate_lock()
        self.users: set[FreezerStop] = set()
        self.frozen: FrozenCgroup | None = None


frozen_cgroups: dict[_Key, _SharedCgroup] = {}
"""Guarded by ``fork_lock``; used by threads of holds, where no signal handler runs."""


def _join(
    key: _Key, user: FreezerStop, version: int, fd: int, deadline: Deadline
) -> FrozenCgroup:
    """Return a cgroup that is frozen: by other users, or now.

    One that was broken from outside is frozen anew. Whatever this raises, the user
    calls ``_leave()``.

    Args:
        key: Of the cgroup.
        user: The stop that needs it frozen.
        version: Of the cgroup interface.
        fd: File descriptor of its directory; lent.
        deadline: For all of it.

    Raises:
        PermissionError: It can't be frozen, or no watchdog runs.
        TimeoutError: It was not frozen in time, or others were busy with it.
    """
    forget_in_children(frozen_cgroups.clear)
    with fork_lock:
        shared = frozen_cgroups.setdefault(key, _SharedCgroup())
        shared.users.add(user)
    wait = min(max(deadline.left(), 0), _thread.TIMEOUT_MAX)
    if not shared.lock.acquire(timeout=wait):
        raise TimeoutError(errno.ETIMEDOUT, "another hold is freezing the cgroup")
    try:
        if shared.frozen is not None and shared.frozen.broken():
            shared.frozen.release()
            shared.frozen = None
        if shared.frozen is None:
            shared.frozen = FrozenCgroup(version, fd)
            shared.frozen.freeze(deadline)
        return shared.frozen
    except BaseException:
        if shared.frozen is not None:
            shared.frozen.release()
            shared.frozen = None
        raise
    finally:
        shared.lock.release()


def _leave(key: _Key, user: FreezerStop) -> None:
    """End a user's part: the last one thaws the cgroup; may be called again."""
    shared = frozen_cgroups.get(key)
    if shared is None or user not in shared.users:
        return
    with shared.lock:
        if shared.users == {user} and shared.frozen is not None:
            shared.frozen.release()
            shared.frozen = None
        with fork_lock:
            shared.users.discard(user)
            if not shared.users and shared.frozen is None:
                frozen_cgroups.pop(key, None)
