"""Trees of cgroups: any depth and number, by a constant number of descriptors.

Whoever owns a cgroup decides how many there are below it, how deep they lie and who may
open them: so no recursion, no path longer than a name, and a look at the clock.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
from pmadvise._proc.files import lines, read_in

PATIENCE = 10.0
"""Seconds that a walk takes at most: 10,000 cgroups take one."""

PATH_CUT = 4095
"""Bytes to which /proc/PID/cgroup cuts a path, which then names another cgroup."""

_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_LEAF_LINKS = 2
"""Links of a directory without subdirectories, "." and its name: kernfs counts them."""
_REMOVED = (errno.ENOENT, errno.ENODEV)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class CgroupWalk:
    """An iterator over the open cgroups of a tree, the top first.

    A file descriptor that it yields is open until the next. Cgroups that are removed
    meanwhile are passed over; others that can't be reached are left out, and then
    `left_out` has a reason.

    Args:
        top: File descriptor of the directory of a cgroup; lent.
        seconds: Of the walk, and of the work between unless that adds to `latest`.
        depth: Of the deepest cgroups; None: all.

    Raises:
        OSError: No file descriptor is free, or no memory.
    """

    def __init__(
        self, top: int, seconds: float = PATIENCE, depth: int | None = None
    ) -> None:
        self.left_out = ""
        self.path: list[bytes] = []
        """The names of the directories from the top to the present one."""
        self.latest = time.monotonic() + seconds
        self._seconds = seconds
        self._top = top
        self._depth = depth
        self._device = os.fstat(top).st_dev
        self._inodes = [os.fstat(top).st_ino]

    def __iter__(self) -> Iterator[int]:
        """Yield the file descriptor of each cgroup, before those below it."""
        present = Descriptor.open(b".", self._top, _FLAGS)
        try:
            yield present.fd
            pending = [self._names(present.fd)]
            while pending:
                if time.monotonic() > self.latest:
                    self.left_out = f"there are too many for {self._seconds:g} s"
                    return
                if pending[-1]:
                    below = self._below(present.fd, pending[-1].pop())
                    if below is not None:
                        present.close()
                        present = below
                        yield present.fd
                        pending.append(self._names(present.fd))
                    continue
                pending.pop()
                if self.path:
                    self.path.pop()
                    self._inodes.pop()
                    above = self._above(present.fd)
                    present.close()
                    present = above
                    del pending[len(self.path) + 1 :]
        finally:
            present.close()

    def pids(self, fd: int) -> list[int]:
        """Return pids_in() of a cgroup below; none if it can't be read."""
        try:
            return pids_in(fd)
        except own(OSError) as error:
            # The processes of a threaded cgroup are listed in an ancestor.
            if error.errno != errno.EOPNOTSUPP:
                self._leave_out(error)
            return []

    def _names(self, fd: int) -> list[bytes]:
        """Return the names of the cgroups right below."""
        if len(self.path) == self._depth or os.fstat(fd).st_nlink == _LEAF_LINKS:
            return []
        try:
            directory = Descriptor.open(b".", fd, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with os.scandir(directory.fd) as entries:
                    return [
                        os.fsencode(entry.name)
                        for entry in entries
                        if entry.is_dir(follow_symlinks=False)
                    ]
            finally:
                directory.close()
        except own(OSError) as error:
            self._leave_out(error)
            return []

    def _below(self, fd: int, name: bytes) -> Descriptor | None:
        """Go down; None if that is impossible."""
        try:
            below = Descriptor.open(name, fd, _FLAGS)
            status = os.fstat(below.fd)
        except own(OSError) as error:
            self._leave_out(error)
            return None
        if status.st_dev != self._device:  # another file system is mounted over it
            below.close()
            return None
        self.path.append(name)
        self._inodes.append(status.st_ino)
        return below

    def _above(self, fd: int) -> Descriptor:
        """Go up; if that is refused go down again from the top, as far as possible."""
        try:
            above = Descriptor.open(b"..", fd, _FLAGS)
            if os.fstat(above.fd).st_ino == self._inodes[-1]:
                return above
            above.close()
        except own(OSError) as error:
            self._leave_out(error)
        names, self.path = self.path, []
        del self._inodes[1:]
        present = Descriptor.open(b".", self._top, _FLAGS)
        for name in names:
            below = self._below(present.fd, name)
            if below is None:
                break
            present.close()
            present = below
        return present

    def _leave_out(self, error: OSError) -> None:
        if error.errno in _EXHAUSTED:
            raise error
        if error.errno not in _REMOVED:
            self.left_out = f"some can't be opened ({error.strerror})"


def pids_in(fd: int) -> list[int]:
    """Return the IDs of the processes in an open cgroup itself.

    The ID is 0 for those of a pid namespace that this one does not see.

    Raises:
        OSError: EOPNOTSUPP, it is threaded; ENODEV, it was removed.
    """
    return [*map(int, lines(read_in(fd, "cgroup.procs")))]
