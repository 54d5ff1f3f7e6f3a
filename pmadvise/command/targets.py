"""Targets of a command: each by its handle, or the error in its place."""

from __future__ import annotations

import errno
import os
import resource
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from pmadvise.group import processes
from pmadvise.process import Process


@dataclass
class TargetEntry:
    """A process to look at or to advise."""

    pid: int
    name: str
    """As its owner chose it, undecodable bytes by surrogateescape; "" if unknown."""
    process: Process | None
    error: OSError | None = None
    """Why there is no handle, or why it is not to be advised."""

    @property
    def subject(self) -> str:
        """The target in a message."""
        return f"{self.pid} {self.name}" if self.name else str(self.pid)


class Targets:
    """The targets of a command, in the order given, each once: a context manager.

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
        _allow_descriptors()
        try:
            for pid in pids:
                if pid not in self._found:
                    self._found[pid] = _open(pid)
            for path in cgroups:
                self._add_all(f"--cgroup {path}", cgroup=path)
            for pid in trees:
                self._add_all(f"--tree {pid}", tree=pid)
        except BaseException:
            self.close()
            raise

    def _add_all(
        self, subject: str, cgroup: str | None = None, tree: int | None = None
    ) -> None:
        n_before = len(self._found)
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", RuntimeWarning)
                for process in processes(cgroup=cgroup, tree=tree):
                    # This command was not there when it was asked for.
                    if process.pid in self._found or process.pid == os.getpid():
                        process.close()
                    else:
                        entry = TargetEntry(process.pid, _name_of(process), process)
                        self._found[process.pid] = entry
            for warning in told:  # some were left out
                left = OSError(errno.EACCES, str(warning.message))
                self.errors.append((subject, left))
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError):
                error = OSError(errno.EINVAL, str(error))
            self.errors.append((subject, error))
        else:
            if len(self._found) == n_before:
                nobody = ProcessLookupError(errno.ESRCH, "no process, or none left")
                self.errors.append((subject, nobody))

    def __iter__(self) -> Iterator[TargetEntry]:
        """Iterate over the targets."""
        return iter(self._found.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found)

    def close(self) -> None:
        """Close the handles."""
        for target in self._found.values():
            if target.process is not None:
                target.process.close()

    def __enter__(self) -> Targets:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the handles."""
        self.close()


def _open(pid: int) -> TargetEntry:
    try:
        process = Process(pid)
    except OSError as error:
        return TargetEntry(pid, "", None, error)
    return TargetEntry(pid, _name_of(process), process)


def _name_of(process: Process) -> str:
    with suppress(OSError):
        return process.status().name
    return ""


def listed() -> Iterator[tuple[int, str]]:
    """Yield the ID and the name of each process that has memory, for completion."""
    for process in processes():
        with process:
            yield process.pid, _name_of(process)


def _allow_descriptors() -> None:
    """Allow as many file descriptors as may be: a handle has two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
