"""Targets of a command: which processes, each opened when its turn comes."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmadvise.group import processes
from pmadvise.process import Process
from pmadvise.status import Status

if TYPE_CHECKING:
    from pmadvise.hold import Hold


class TargetProcess(Process):
    """A Process that keeps its latest Hold, to tell of it."""

    held: Hold | None = None

    def hold(
        self, method: str = "auto", timeout: float = 1.0, whole_cgroup: bool = False
    ) -> Hold:
        """Return a Hold, and keep it."""
        self.held = super().hold(method, timeout, whole_cgroup)
        return self.held


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


class Targets:
    """The targets of a command, in the order given, each once.

    Args:
        pids: Process IDs.
        cgroups: Directories or paths of cgroups.
        trees: Process IDs.
    """

    def __init__(
        self, pids: Iterable[int], cgroups: Iterable[str], trees: Iterable[int]
    ) -> None:
        self._found: dict[int, TargetEntry] = {}
        self.errors: list[tuple[str, OSError]] = []
        """Of a --cgroup or --tree that is not there."""
        for pid in pids:
            if pid not in self._found:
                self._found[pid] = _entry(pid)
        for path in cgroups:
            self._add_all(f"--cgroup {path}", cgroup=path)
        for pid in trees:
            self._add_all(f"--tree {pid}", tree=pid)

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
                        if process.pid not in self._found:
                            entry = TargetEntry(process.pid, is_member=True)
                            _look(entry, process)
                            self._found[entry.pid] = entry
            for warning in told:  # some were left out
                left_out = OSError(errno.EACCES, str(warning.message))
                self.errors.append((subject, left_out))
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError):
                error = OSError(errno.EINVAL, str(error))
            self.errors.append((subject, error))
        else:
            if not n_members:
                nobody = ProcessLookupError(errno.ESRCH, "no process, or none left")
                self.errors.append((subject, nobody))

    def __iter__(self) -> Iterator[TargetEntry]:
        """Iterate over the targets."""
        return iter(self._found.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found)


def _entry(pid: int) -> TargetEntry:
    entry = TargetEntry(pid)
    try:
        with Process(pid) as process:
            _look(entry, process)
    except OSError as error:
        entry.error = error
    return entry


def _look(entry: TargetEntry, process: Process) -> None:
    try:
        entry.status = process.status()
    except OSError as error:
        entry.error = error


def listed() -> Iterator[tuple[int, str]]:
    """Yield the ID and the name of each process that has memory, for completion."""
    for process in processes():
        with process, suppress(OSError):
            yield process.pid, process.status().name
