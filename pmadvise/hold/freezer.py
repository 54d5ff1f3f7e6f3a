"""Hold a process by freezing its cgroup (v2 cgroup.freeze, v1 freezer.state)."""

from __future__ import annotations

import errno
import os

from pmadvise._proc.cgroups import (
    VERSIONS,
    Membership,
    directories,
    hierarchies,
    memberships,
    processes_in,
)
from pmadvise._proc.files import read_in
from pmadvise.hold import frozen
from pmadvise.hold.deadline import Deadline
from pmadvise.hold.fds import OwnedFd
from pmadvise.hold.target import HeldProcess

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class FreezerStop:
    """The target's cgroup, frozen; left as it is if it was frozen before.

    Raises:
        PermissionError: There is no freezer for its cgroup alone, or the kernel refuses
            to use it, or nobody could thaw it if the caller were killed.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not freeze in time; the cgroup was restored.
    """

    method = "freezer"

    def __init__(self, target: HeldProcess, whole_cgroup: bool) -> None:
        self._target = target
        self._whole_cgroup = whole_cgroup
        self._frozen: frozen.FrozenCgroup | None = None
        self._key = 0, 0
        self._membership: Membership | None = None

    def stop(self, deadline: Deadline) -> None:
        """Freeze the cgroup, if it is not: of v2, or else of v1."""
        reasons = []
        mounted = hierarchies()
        for membership in self._memberships():
            for path in directories(membership, mounted):
                self._membership = membership
                directory = os.fsdecode(path)
                try:
                    return self._freeze(membership.version, directory, deadline)
                except (TimeoutError, ProcessLookupError):
                    raise
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        raise
                    reasons.append(f"{directory}: {error.strerror}")
                    self._leave()
        self._target.check_alive()
        raise self._target.refuse("; ".join(reasons) or "no cgroup freezer is mounted")

    def _memberships(self) -> list[Membership]:
        try:
            found = memberships(self._target.proc)
        except (ProcessLookupError, FileNotFoundError):
            raise self._target.ended() from None
        return [membership for membership in found if membership.can_freeze]

    def _freeze(self, version: int, directory: str, deadline: Deadline) -> None:
        cgroup = OwnedFd.open(lambda: os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
        try:
            self._check_company(version, cgroup.fd)
            found = os.fstat(cgroup.fd)
            self._key = found.st_dev, found.st_ino
            self._frozen = frozen.join(self._key, self, version, cgroup.fd, deadline)
            # Whoever came in the meantime, or was elsewhere, is seen only now.
            self._check_company(version, cgroup.fd)
            here = set(read_in(cgroup.fd, VERSIONS[version].threads).split())
            if not all(b"%d" % t.tid in here for t in self._target.threads()):
                raise _unfit("some of its threads are elsewhere")
        except TimeoutError:
            raise self._target.late(self.method) from None
        finally:
            cgroup.close()

    def _leave(self) -> None:
        frozen.leave(self._key, self)
        self._frozen = None

    def _check_company(self, version: int, fd: int) -> None:
        """Raise PermissionError unless the cgroup may be frozen for the target."""
        try:
            os.stat(VERSIONS[version].control, dir_fd=fd)
            processes = set(processes_in(fd))
        except FileNotFoundError:
            raise _unfit(
                "the root cgroup, which holds the caller too, has no freezer"
            ) from None
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise _unfit("the cgroup is threaded") from None
            raise
        if os.getpid() in processes:
            raise _unfit("the cgroup holds the caller itself")
        if self._target.pid not in processes:
            # The kernel takes a process out when its last thread begins to exit.
            if self._target.leader_exits():
                raise self._target.ended()
            raise _unfit("it is not, or no longer, in the cgroup")
        if len(processes) > 1 and not self._whole_cgroup:
            raise _unfit(
                f"the cgroup holds {len(processes) - 1} other processes, "
                "and whole_cgroup is not set"
            )

    def broken(self) -> str | None:
        """Return why the target may run, None if it may not."""
        if self._target.proc < 0:
            return "the caller's file descriptors were closed, which let it go"
        if self._target.is_dead():
            return None
        if self._membership not in self._memberships():
            return "it was moved to another cgroup"
        return self._frozen.broken() if self._frozen is not None else None

    def is_over(self) -> bool:
        """Return False: a frozen cgroup keeps no dead process from its parent."""
        return False

    def reap(self) -> None:
        """Do nothing: the kernel keeps no freeze waiting."""

    def release(self) -> None:
        """Leave the cgroup: the last to leave restores it."""
        self._leave()
        self._target.close()


def _unfit(reason: str) -> PermissionError:
    return PermissionError(errno.EPERM, reason)
