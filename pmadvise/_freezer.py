"""Hold a process by freezing its cgroup (v2 cgroup.freeze, v1 freezer.state)."""

from __future__ import annotations

import errno
import functools
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from pmadvise._join import Shared, Stop, join, leave
from pmadvise._owned import Owned, open_at, read_at
from pmadvise._target import Target, pauses


class _Version(NamedTuple):
    """What a version of the cgroup interface calls things."""

    control: str  # the file to write to
    thaw: bytes
    freeze: bytes
    own: str  # the file that says what was asked for
    state: str  # the file that says what is
    is_frozen: bytes  # a line of that
    threads: str


# Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/freezer-subsystem.rst
_VERSIONS = {
    2: _Version(
        control="cgroup.freeze",
        thaw=b"0",
        freeze=b"1",
        own="cgroup.freeze",
        state="cgroup.events",
        is_frozen=b"frozen 1",
        threads="cgroup.threads",
    ),
    1: _Version(
        control="freezer.state",
        thaw=b"THAWED",
        freeze=b"FROZEN",
        own="freezer.self_freezing",
        state="freezer.state",
        is_frozen=b"FROZEN",
        threads="tasks",
    ),
}


def frozen(target: Target, versions: tuple[int, ...] = (2, 1)) -> bool:
    """Tell whether the target's cgroup, or one above it, is frozen."""
    for version, path in _paths(target):
        if version not in versions:
            continue
        names = _VERSIONS[version]
        for directory in _directories(version, path):
            with suppress(OSError):
                state = _read(os.path.join(directory, names.state))
                if names.is_frozen in state.splitlines():
                    return True
    return False


class FreezerStop:
    """The target's cgroup, frozen; left as it is if it was frozen before.

    Raises:
        PermissionError: There is no freezer for its cgroup alone.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not freeze in time; the cgroup was restored.
    """

    method = "freezer"

    def __init__(self, target: Target, whole_cgroup: bool) -> None:
        self._target = target
        self._whole_cgroup = whole_cgroup
        self._key: tuple[str, int, int] | None = None
        self._frozen: Stop | None = None
        self._cgroup = 0, b""

    def take(self, deadline: float) -> None:
        """Freeze the cgroup, if it is not: of v2, or else of v1."""
        reasons = []
        for version, path in _paths(self._target):
            for directory in _directories(version, path):
                self._cgroup = version, path
                try:
                    return self._freeze(version, directory, deadline)
                except (PermissionError, FileNotFoundError) as error:
                    reasons.append(f"{directory}: {error.strerror}")
                    self._leave()
        self._target.check_alive()
        raise self._target.refuse("; ".join(reasons) or "no cgroup freezer is mounted")

    def _freeze(self, version: int, directory: str, deadline: float) -> None:
        def take(shared: Shared) -> None:
            shared.stop = _Frozen(version, fd)
            shared.stop.take(deadline)

        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._check_company(version, fd)
            found = os.fstat(fd)
            self._key = "cgroup", found.st_dev, found.st_ino
            self._frozen = join(self._key, self, deadline, take)
            # Whoever came in the meantime, or was elsewhere, is seen only now.
            self._check_company(version, fd)
            here = set(read_at(_VERSIONS[version].threads, fd).split())
            if not all(b"%d" % t.tid in here for t in self._target.threads()):
                raise _unfit("some of its threads are elsewhere")
        except TimeoutError:
            raise self._target.late(self.method) from None
        finally:
            os.close(fd)

    def _leave(self) -> None:
        if self._key is not None:
            leave(self._key, self)
            self._key = None

    def _check_company(self, version: int, fd: int) -> None:
        """Raise PermissionError unless the cgroup may be frozen for the target."""
        try:
            os.stat(_VERSIONS[version].control, dir_fd=fd)
            processes = set(_processes(fd))
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
        if self._target.dead:
            return None
        if self._cgroup not in _paths(self._target):
            return "it was moved to another cgroup"
        return self._frozen.broken() if self._frozen is not None else None

    def release(self) -> None:
        """Leave the cgroup: the last to leave restores it."""
        self._leave()
        self._target.close()


class _Frozen:
    """A frozen cgroup, with a watchdog that thaws it if the caller is killed.

    The watchdog is /bin/sh, deaf to every signal and in a session of its own, that
    reads a pipe: it thaws the cgroup at the pipe's end, which is the caller's, and
    goes away when it is written to.
    """

    method = "freezer"

    def __init__(self, version: int, fd: int) -> None:
        self._names = _VERSIONS[version]
        self._directory = open_at(".", os.O_RDONLY | os.O_DIRECTORY, fd)
        self._control: Owned | None = None
        self._pipe: tuple[Owned, ...] = ()
        self._watchdog = 0

    def take(self, deadline: float) -> None:
        """Freeze the cgroup, if it is not."""
        names, directory = self._names, self._directory.fd
        if read_at(names.own, directory).strip() != b"1":
            self._control = open_at(names.control, os.O_WRONLY, directory)
            self._watch(self._control.fd)
            os.write(self._control.fd, names.freeze)
        for _ in pauses(deadline):
            if self._is_frozen():
                return
        raise TimeoutError(errno.ETIMEDOUT, "the cgroup did not freeze in time")

    def _is_frozen(self) -> bool:
        state = read_at(self._names.state, self._directory.fd)
        return self._names.is_frozen in state.splitlines()

    def _watch(self, control: int) -> None:
        self._pipe = Owned.take(lambda: os.pipe2(os.O_CLOEXEC))
        actions = [
            (os.POSIX_SPAWN_DUP2, self._pipe[0].fd, 0),
            (os.POSIX_SPAWN_DUP2, control, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        script = f"read -r x || echo {self._names.thaw.decode()}"
        spawn = functools.partial(
            os.posix_spawn,
            "/bin/sh",
            ["sh", "-c", script],
            {},
            file_actions=actions,
            setsigmask=signal.valid_signals(),
        )
        try:
            self._watchdog = spawn(setsid=True)
        except NotImplementedError:  # Python was built for a glibc older than 2.26
            self._watchdog = spawn(setpgroup=0)
        self._pipe[0].close()

    def broken(self) -> str | None:
        """Return why it is not frozen, None if it is or is no more."""
        try:
            return None if self._is_frozen() else "the cgroup was thawed from elsewhere"
        except FileNotFoundError:
            return None  # removed, so nobody is left in it
        except OSError as error:
            return None if error.errno == errno.ENODEV else str(error)

    def release(self) -> None:
        """Restore what was asked of the cgroup before, and send the watchdog away."""
        if self._control is not None and (fd := self._control.fd) >= 0:
            with suppress(OSError):  # ENODEV: it is removed
                os.write(fd, self._names.thaw)
            self._control.close()
        if self._pipe and (fd := self._pipe[1].fd) >= 0:
            with suppress(BrokenPipeError):  # killed by someone
                os.write(fd, b"\n")
        for owned in (*self._pipe, self._directory):
            owned.close()
        if self._watchdog:
            with suppress(ChildProcessError):  # reaped by a wait for any child
                os.waitpid(self._watchdog, 0)
            self._watchdog = 0


def _unfit(reason: str) -> PermissionError:
    return PermissionError(errno.EPERM, reason)


def _paths(target: Target) -> list[tuple[int, bytes]]:
    """Return versions and paths of the target's cgroups that can freeze, v2 first."""
    paths: list[tuple[int, bytes]] = []
    for line in target.read("cgroup").splitlines():
        hierarchy, controllers, path = line.split(b":", 2)
        if hierarchy == b"0":
            paths.insert(0, (2, path))
        elif b"freezer" in controllers.split(b","):
            paths.append((1, path))
    return paths


def _directories(version: int, path: bytes) -> Iterator[str]:
    """Yield where a cgroup is found, by the mounts of its hierarchy."""
    for line in _read("/proc/self/mountinfo").splitlines():
        mount, _, filesystem = line.partition(b" - ")
        kind, _, options = filesystem.split(b" ", 2)
        if version == 2:
            if kind != b"cgroup2":
                continue
        elif kind != b"cgroup" or b"freezer" not in options.split(b","):
            continue
        root, point = (_unescape(field) for field in mount.split(b" ")[3:5])
        below = os.path.relpath(path, root)
        if not below.startswith(b".."):
            yield os.fsdecode(os.path.normpath(os.path.join(point, below)))


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\(\d{3})", lambda match: bytes([int(match[1], 8)]), field)


def _processes(fd: int) -> Iterator[int]:
    """Yield the processes in a cgroup and in those below it."""
    for _, _, _, directory in os.fwalk(".", dir_fd=fd):
        try:
            yield from map(int, read_at("cgroup.procs", directory).split())
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ENOENT):  # just removed
                raise


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()
