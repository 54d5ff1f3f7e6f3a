"""Who is in a cgroup and in those below it: handles that stay open."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from policy import Candidate

from pmadvise import Process

GONE = (errno.ENOENT, errno.ENODEV)  # ENODEV: removed once open
OWN = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # errors of the daemon, of no target
WALK, REST = 0.5, 20  # seconds for the cgroups below one; how often as long between
MOST = 10_000  # processes that are watched of one cgroup


class Members:
    """The processes of a cgroup.

    Args:
        directory: Of the cgroup.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.known: dict[int, Candidate] = {}
        """Those that are watched, by ID."""
        self.n_listed = 0
        self.hidden = ""
        """Why some are not watched."""
        self.most = MOST
        """Processes that are watched at most."""
        self._next_walk, self._is_whole = 0.0, True

    def refresh(self, now: float) -> None:
        """Open the processes that are new, and close those that have gone.

        Raises:
            OSError: No descriptor is free, or no memory: what is open stays.
        """
        for pid in [pid for pid, one in self.known.items() if one.gone]:
            self.known.pop(pid).process.close()
        if now < self._next_walk:
            return
        began = time.monotonic()
        self.hidden, self._is_whole = "", True
        found = [*self._walk(began + WALK)]
        self._next_walk = now + REST * (time.monotonic() - began)
        listed = [pid for _, pids in found for pid in pids]
        self.n_listed = len(listed)
        if 0 in listed:
            self.hidden = (
                "some are of a pid namespace that is not seen here: run it "
                "in that of the host (--pid=host, hostPID: true)"
            )
        if self._is_whole:
            for pid in self.known.keys() - {*listed}:  # they were moved elsewhere
                self.known.pop(pid).process.close()
        for directory, pids in found:
            self._open(directory, pids, now)

    def close(self) -> None:
        """Close the handles."""
        self.n_listed = 0
        while self.known:
            self.known.popitem()[1].process.close()

    def _open(self, directory: str, pids: list[int], now: float) -> None:
        """Open the processes of a cgroup that are not yet."""
        fresh: dict[int, Candidate] = {}
        try:
            for pid in pids:
                if pid in self.known:
                    self.known[pid].cgroup = directory
                elif len(self.known) + len(fresh) >= self.most:
                    self.hidden = f"it has more than {self.most}, which are watched"
                elif pid and (one := self._candidate(pid, directory, now)):
                    fresh[pid] = one
            # Who is listed still is the one that was opened, and no later one.
            for pid in _pids(directory) if fresh else ():
                if pid in fresh:
                    self.known[pid] = fresh.pop(pid)
        finally:
            for one in fresh.values():
                one.process.close()

    def _candidate(self, pid: int, directory: str, now: float) -> Candidate | None:
        """Open a process; return None if it has gone, or is hidden."""
        try:
            process = Process(pid)
            try:
                return Candidate(process, directory, process.status(), now)
            except BaseException:
                process.close()
                raise
        except OSError as error:
            if error.errno in OWN:
                raise
            if isinstance(error, PermissionError):
                self.hidden = str(error)
            return None  # ESRCH; EINVAL, ENOENT: a thread has the ID by now

    def _walk(self, end: float) -> Iterator[tuple[str, list[int]]]:
        """Yield it and the cgroups below it with their processes, until a time."""
        pending = [self.directory]  # no recursion: others decide how deep they lie
        while pending:
            if time.monotonic() > end:
                self._leave_out(f"the cgroups below it are too many for {WALK} s")
                return
            directory = pending.pop()
            try:
                with os.scandir(directory) as entries:
                    below = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
                pending += below
                yield directory, _pids(directory)
            except OSError as error:
                if error.errno in OWN:
                    raise
                if error.errno not in GONE:
                    self._leave_out(f"a cgroup below it: {error.strerror}")

    def _leave_out(self, why: str) -> None:
        self.hidden, self._is_whole = why, False


def listed(directory: str) -> list[int]:
    """Return the IDs in a cgroup and in those below it.

    Raises:
        OSError: Not all can be seen.
    """
    found, pending = _pids(directory), [directory]
    end = time.monotonic() + WALK
    while pending:
        if time.monotonic() > end:
            raise TimeoutError(f"{directory}: too many cgroups are below it")
        with os.scandir(pending.pop()) as entries:
            below = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        found += [pid for path in below for pid in _pids(path)]
        pending += below
    return found


def _pids(directory: str) -> list[int]:
    """Return the IDs in a cgroup; 0 stands for those of another pid namespace."""
    try:
        text = Path(directory, "cgroup.procs").read_text("ascii")
    except OSError as error:
        if error.errno in (*GONE, errno.EOPNOTSUPP):  # threaded: they are listed above
            return []
        raise
    return [*map(int, text.split())]
