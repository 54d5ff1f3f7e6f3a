"""Targets of a command: which processes, each opened when its turn comes."""

from __future__ import annotations

import errno
import os
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from pmadvise.command.options import User
from pmadvise.group import processes
from pmadvise.process import Process
from pmadvise.status import Status

if TYPE_CHECKING:
    from pmadvise.hold import Hold
    from pmadvise.idle import SourceName, Tracker


class TargetProcess(Process):
    """A Process that keeps its latest Hold and its Tracker, to tell of them."""

    held: Hold | None = None
    tracker: Tracker | None = None
    """Closed with the process."""

    def hold(
        self, method: str = "auto", timeout: float = 1.0, whole_cgroup: bool = False
    ) -> Hold:
        """Return a Hold, and keep it."""
        self.held = super().hold(method, timeout, whole_cgroup)
        return self.held

    def track(self, source: SourceName = "auto") -> Tracker:
        """Return a Tracker, and keep it in the place of an earlier one."""
        if self.tracker is not None:
            self.tracker.close()
        self.tracker = super().track(source)
        return self.tracker

    def close(self) -> None:
        """Close the Tracker, and the process."""
        try:
            if self.tracker is not None:
                self.tracker.close()
        finally:
            super().close()


@dataclass
class TargetEntry:
    """A process to look at or to advise; it has no open file."""

    pid: int
    status: Status | None = None
    """As it was found; None if unknown."""
    error: OSError | None = None
    """Why it can't be looked at, or why it is not to be advised."""
    reported: str = ""
    """The latest error of it that was printed."""
    is_member: bool = False
    """Whether it was found in a group, whose members come and go."""

    @property
    def name(self) -> str:
        """As its owner chose it, undecodable bytes by surrogateescape; "" if unknown.

        It is the name that it had when it was found.
        """
        return "" if self.status is None else self.status.name

    @property
    def subject(self) -> str:
        """The target in a message."""
        return f"{self.pid} {self.name}" if self.name else str(self.pid)

    def open(self) -> TargetProcess:
        """Open the process, and no later one of the same ID.

        Raises:
            ProcessLookupError: It has gone.
            OSError: As Process().
        """
        process = TargetProcess(self.pid)
        try:
            # The ID and the start time name a process for ever.
            if self.status is None or process.status().started != self.status.started:
                raise ProcessLookupError(errno.ESRCH, "the process has exited")
        except BaseException:
            process.close()
            raise
        return process

    @property
    def alive(self) -> bool:
        """Whether it has not exited."""
        try:
            with self.open() as process:
                return process.alive
        except OSError:
            return False

    def may_have_gone(self, error: OSError) -> bool:
        """Return whether an error only says that a member of a group has exited."""
        return self.is_member and isinstance(error, ProcessLookupError)


class Criteria(NamedTuple):
    """The names and users that targets are narrowed to; empty: any."""

    names: tuple[str, ...]
    users: tuple[User, ...]

    def match(self, status: Status) -> bool:
        """Return whether a process has one of the names and is of one of the users."""
        has_name = not self.names or any(
            fnmatchcase(status.name, name) for name in self.names
        )
        is_of_user = not self.users or any(
            status.uid == user.uid for user in self.users
        )
        return has_name and is_of_user

    def __str__(self) -> str:
        """Return the options as they were given."""
        words = [f"--name {shlex.quote(name)}" for name in self.names]
        words += [f"--user {shlex.quote(user.text)}" for user in self.users]
        return " ".join(words)


class Targets:
    """The targets of a command, in the order given, each once.

    Args:
        pids: Process IDs.
        cgroups: Directories or paths of cgroups.
        trees: Process IDs.
        names: Patterns that narrow what is found, or the processes of the host if
            neither a process nor a group is given.
        users: Likewise.
        host: Whether the whole host is meant where nothing is given.
        note: Called with each target that is found and its open Process.
    """

    def __init__(
        self,
        pids: Iterable[int],
        cgroups: Iterable[str],
        trees: Iterable[int],
        names: Iterable[str] = (),
        users: Iterable[User] = (),
        *,
        host: bool = False,
        note: Callable[[TargetEntry, Process], object] | None = None,
    ) -> None:
        self._pids, self._cgroups, self._trees = [*pids], [*cgroups], [*trees]
        self._criteria = Criteria((*names,), (*users,))
        self._host, self._note = host, note
        self._given: dict[int, TargetEntry] = {}
        self._found: dict[int, TargetEntry] = {}
        self.errors: list[tuple[str, OSError]] = []
        """Of a --cgroup or --tree that is not there, of a --name without a process."""
        self.left_out: list[str] = []
        """Why processes of the whole host are not among the targets."""
        self.look()

    def look(self) -> None:
        """Look for the targets anew: members may be others, those given by ID not."""
        self._found, self.errors, self.left_out = {}, [], []
        for pid in dict.fromkeys(self._pids):
            self._add_given(pid)
        for path in self._cgroups:
            self._add_all(f"--cgroup {path}", cgroup=path)
        for pid in self._trees:
            self._add_all(f"--tree {pid}", tree=pid)
        if not (self._pids or self._cgroups or self._trees):
            if any(self._criteria):
                self._add_all(str(self._criteria))
            elif self._host:
                self._add_all("")
        if any(self._criteria) and not (self._found or self.errors):
            nobody = ProcessLookupError(errno.ESRCH, "no process matches")
            self.errors.append((str(self._criteria), nobody))

    def _add_given(self, pid: int) -> None:
        entry = self._given.setdefault(pid, TargetEntry(pid))
        try:
            if entry.error is not None:
                raise entry.error
            with Process(pid) if entry.status is None else entry.open() as process:
                entry.status = process.status()
                if self._criteria.match(entry.status):
                    self._add(entry, process)
        except OSError as error:
            entry.error, entry.status = error, None
            self._found[pid] = entry

    def _add(self, entry: TargetEntry, process: Process) -> None:
        self._found[entry.pid] = entry
        if self._note is not None:
            self._note(entry, process)

    def _add_all(
        self, subject: str, cgroup: str | None = None, tree: int | None = None
    ) -> None:
        n_members = 0
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", RuntimeWarning)
                for process in processes(cgroup=cgroup, tree=tree):
                    with process:
                        # This command was not there when it was asked for.
                        if process.pid == os.getpid():
                            continue
                        n_members += 1
                        self._add_member(process)
            for warning in told:  # some were left out
                text = str(warning.message).removeprefix("processes(): ")
                if subject:
                    self.errors.append((subject, OSError(errno.EACCES, text)))
                else:
                    self.left_out.append(text)
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError):
                error = OSError(errno.EINVAL, str(error))
            self.errors.append((subject, error))
        else:
            if not n_members and not (subject and told):
                text = "no process, or none left"
                if not subject:
                    text = "no process can be seen but this command"
                nobody = ProcessLookupError(errno.ESRCH, text)
                self.errors.append((subject, nobody))

    def _add_member(self, process: Process) -> None:
        entry = TargetEntry(process.pid, is_member=True)
        if entry.pid in self._found:
            return
        try:
            entry.status = process.status()
        except OSError as error:
            if not any(self._criteria):
                entry.error = error
                self._found[entry.pid] = entry
            elif not entry.may_have_gone(error):  # whether it matches is unknown
                self.errors.append((entry.subject, error))
            return
        if self._criteria.match(entry.status):
            self._add(entry, process)

    def __iter__(self) -> Iterator[TargetEntry]:
        """Iterate over the targets."""
        return iter(self._found.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found)
