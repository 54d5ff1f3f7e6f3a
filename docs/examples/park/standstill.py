"""Cgroups and process trees that are made to stand still, and are let go on again."""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pmadvise import Process, processes, reclaim

LOOK, STILL = 0.01, 30.0  # seconds: between looks, and until all must stand still
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class Guard:
    """A process that lets go on what stands still once this one ends, even by SIGKILL.

    What it lets go on is handed over as a descriptor, before it is made to stand still:
    of a process, or of a file with the text that is to be written to it. It dies
    without doing so only if it is killed itself, as by cgroup.kill of the cgroup of
    both.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._pid = os.fork()
        if not self._pid:
            try:
                os.setsid()
                self._socket.close()
                self._watch(theirs)
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def __enter__(self) -> Guard:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go on what is not kept; return once that is done."""
        self._socket.close()
        os.waitpid(self._pid, 0)

    def add(self, fd: int, text: str = "SIGCONT") -> None:
        """Have it let a process or a cgroup go on in the end."""
        socket.send_fds(self._socket, [text.encode()], [fd])

    def keep(self) -> None:
        """Let all stand still for good."""
        self._socket.send(b"keep")

    @staticmethod
    def _watch(theirs: socket.socket) -> None:
        held: list[tuple[int, bytes]] = []
        while message := socket.recv_fds(theirs, 16, 1):
            text, fds = message[:2]
            if text == b"keep":
                return
            if not text:  # the other end is closed
                break
            held.append((fds[0], text))
        for fd, text in held:
            with suppress(OSError):  # it has gone
                if text == b"SIGCONT":
                    signal.pidfd_send_signal(fd, signal.SIGCONT)
                else:
                    os.write(fd, text)


class Version(NamedTuple):
    """The freezer's files in a version of cgroups, and what is in them."""

    control: str
    freeze: str
    thaw: str
    own: str
    """The file that tells whether it was frozen itself, not one above it."""
    state: str
    is_frozen: str


# Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/freezer-subsystem.rst
VERSIONS = (
    Version("cgroup.freeze", "1", "0", "cgroup.freeze", "cgroup.events", "frozen 1"),
    Version(
        *("freezer.state", "FROZEN", "THAWED"),
        *("freezer.self_freezing", "freezer.state", "FROZEN"),
    ),
)


class Cgroup:
    """A cgroup with those below it, which is frozen.

    Args:
        name: Its directory, or its path as /proc/PID/cgroup has it.

    Raises:
        OSError: There is none, or it may not be parked.
    """

    def __init__(self, name: str) -> None:
        places = [
            (directory, version)
            for directory in find(name)
            for version in VERSIONS
            if (directory / version.control).exists()
        ]
        if not places:
            raise OSError(f"{name}: the root of the cgroups, or one without a freezer")
        # where both versions are mounted, an engine may have frozen it in v1
        still = [place for place in places if _is_frozen(*place)]
        self.directory, self._version = (still or places)[0]

    def members(self) -> list[Process]:
        """Return its processes."""
        return list(processes(cgroup=self.directory))

    def is_still(self) -> bool:
        """Return whether it was frozen itself, whoever did it."""
        return _is_frozen(self.directory, self._version)

    def hand_over(self, guard: Guard) -> None:
        """Let the guard thaw it in the end."""
        control = os.open(self.directory / self._version.control, os.O_WRONLY)
        guard.add(control, self._version.thaw)
        os.close(control)

    def stop(self, guard: Guard, deadline: float) -> list[Process]:
        """Freeze it; return its processes once they stand still."""
        if not self.is_still():
            self.hand_over(guard)
            (self.directory / self._version.control).write_text(self._version.freeze)
        state = self.directory / self._version.state
        wanted = self._version.is_frozen
        wait(lambda: wanted in state.read_text().split("\n"), deadline)
        return self.members()

    def reclaim(self, swap_floor: int, deadline: float) -> int | None:
        """Have the kernel take all its memory; return the bytes, None if it may not."""
        try:
            size = reclaim(self.directory, 0).before.current
            done = reclaim(
                self.directory, size, swap_floor=swap_floor, timeout=left(deadline)
            )
        except (FileNotFoundError, PermissionError):  # no memory.reclaim, or not ours
            return None
        except OSError as error:
            print(f"memory.reclaim is of no use: {error}")
            return None
        return max(done.reclaimed, 0)


class Tree:
    """A process with its descendants, which are stopped by SIGSTOP.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def members(self) -> list[Process]:
        """Return its processes."""
        return list(processes(tree=self.pid))

    def is_still(self) -> bool:
        """Return whether its first process is stopped, whoever did it."""
        with Process(self.pid) as process:
            return process.status().state == "T"

    def hand_over(self, guard: Guard) -> None:
        """Let the guard continue those that are stopped in the end."""
        for one in self.members():
            with one:
                if state(one) == "T":
                    guard.add(one.fileno())

    def stop(self, guard: Guard, deadline: float) -> list[Process]:
        """Stop all, even those that are forked meanwhile; return them."""
        stopped: list[Process] = []
        while fresh := new(self.members(), stopped):
            for one in fresh:
                with suppress(ProcessLookupError):
                    if state(one) != "T":  # else it is somebody else's to continue
                        guard.add(one.fileno())
                        signal.pidfd_send_signal(one.fileno(), signal.SIGSTOP)
            stopped += fresh
            wait(partial(are_still, stopped), deadline)
        return stopped

    def reclaim(self, swap_floor: int, deadline: float) -> int | None:  # noqa: ARG002
        """Return None: a tree has no cgroup of its own."""
        return None


def find(name: str) -> list[Path]:
    """Return the directories of a cgroup: in v2, and where v1 has the freezer."""
    lines = Path("/proc/self/mountinfo").read_text().split("\n")[:-1]
    mounts = [line.split() for line in lines]
    kinds = [(mount[4], mount[mount.index("-") + 1 :]) for mount in mounts]
    tops = [top for top, kind in kinds if kind[0] == "cgroup2"]
    tops += [
        top
        for top, kind in kinds
        if kind[0] == "cgroup" and "freezer" in kind[-1].split(",")
    ]
    names = (name, *(f"{top}/{name}" for top in tops))
    found = [Path(name) for name in names if os.path.exists(f"{name}/cgroup.procs")]
    if not found:
        raise FileNotFoundError(f"{name}: no such cgroup")
    return found


def _is_frozen(directory: Path, version: Version) -> bool:
    return (directory / version.own).read_text().strip() == "1"


def new(found: list[Process], known: list[Process]) -> list[Process]:
    """Return the processes that are not known, and close the others."""
    pids = {one.pid for one in known}
    for one in found:
        if one.pid in pids:
            one.close()
    return [one for one in found if one.pid not in pids]


def state(process: Process) -> str:
    """Return the state of a process; X if it has gone."""
    try:
        return process.status().state
    except ProcessLookupError:
        return "X"


def are_still(handles: list[Process]) -> bool:
    """Return whether all processes are stopped, or have ended."""
    return all(state(one) in "TZX" for one in handles)


def wait(is_done: Callable[[], bool], deadline: float) -> None:
    """Wait until something is so; raise TimeoutError after a time."""
    end = min(deadline, time.monotonic() + STILL)
    while not is_done():
        if time.monotonic() > end:
            raise TimeoutError("not all processes stand still in time")
        time.sleep(LOOK)


def left(deadline: float) -> float | None:
    """Return the seconds until a time; None: any number."""
    if math.isinf(deadline):
        return None
    return max(deadline - time.monotonic(), 0.0)
