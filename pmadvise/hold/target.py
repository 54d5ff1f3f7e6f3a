"""The process to be held: its files, and the states of its threads."""

from __future__ import annotations

import errno
import os

from pmadvise import _reasons
from pmadvise._handle.identity import Identity
from pmadvise._native.task import (
    Thread,
    ThreadArray,
    task_ended,
    task_list,
    task_own,
    task_status,
)
from pmadvise._origin import own
from pmadvise._proc.cgroups import is_frozen
from pmadvise._proc.files import fields, read_in, read_stat
from pmadvise._proc.pidfds import has_ended
from pmadvise.hold.fds import OwnedFd

ProcessKey = tuple[int, int]
"""The ID and the start time of a process: they name it for ever."""
DESCRIPTORS_CLOSED = "the caller's file descriptors were closed, which let it run"
"""Why a hold that needs descriptors is broken."""

_tracers: set[int] = set()
"""IDs of the caller's threads that have traced."""


def note_tracer() -> None:
    """Note that the calling thread may be a target's tracer until the thread ends."""
    for tid in list(_tracers):
        if task_ended(tid, 0):
            _tracers.discard(tid)
    _tracers.add(task_own())


def has_traced() -> bool:
    """Return whether the calling thread has called ``note_tracer()``."""
    return task_own() in _tracers


def is_ending_tracer(tid: int) -> bool:
    """Return whether a thread is of an earlier hold, which traces until it ends."""
    return tid in _tracers and not task_ended(tid, 0)


class HeldProcess:
    """A process to be stopped, with file descriptors of its own.

    Args:
        identity: Lent; both file descriptors are copied.
        key: Of the process that the hold was asked for.
        whole_cgroup: Whether other processes of its cgroup may be stopped with it.

    Raises:
        ProcessLookupError: It has ended, or is a kernel thread.
        PermissionError: It is the caller, the caller's tracer, or hidden by /proc.
        ValueError: The identity is closed.
    """

    def __init__(self, identity: Identity, key: ProcessKey, whole_cgroup: bool) -> None:
        self.pid, _ = key
        self.whole_cgroup = whole_cgroup
        self._pidfd: OwnedFd | None = None
        self._proc: OwnedFd | None = None
        try:
            with identity.pin():
                self._pidfd = OwnedFd.copy(identity.pidfd)
                self._proc = OwnedFd.copy(identity.proc)
            self._check(key)
        except BaseException:
            self.close()
            raise

    def _check(self, key: ProcessKey) -> None:
        if (no := _reasons.no_proc()) is not None:
            raise self.refusal(no)
        if self.pid == os.getpid():
            raise self.refusal("the caller can't hold itself: use another process")
        try:
            stat = read_stat(self.proc)
            if (stat.pid, stat.start_ticks) != key:
                raise self.ended()
        except own(ProcessLookupError, FileNotFoundError):
            raise self.ended() from None
        self.check_alive()
        if stat.is_kernel_thread:
            raise ProcessLookupError(
                errno.ESRCH, f"process {self.pid} is a kernel thread: it can't be held"
            )
        self.check_not_tracer()

    def close(self) -> None:
        """Close the descriptors; may be called again."""
        self.close_pidfd()
        if self._proc is not None:
            self._proc.close()

    def close_pidfd(self) -> None:
        """Close the pidfd, which only stopping needs."""
        if self._pidfd is not None:
            self._pidfd.close()

    @property
    def pidfd(self) -> int:
        """The pidfd; -1 after all descriptors were closed."""
        return -1 if self._pidfd is None else self._pidfd.fd

    @property
    def proc(self) -> int:
        """The /proc/PID directory; -1 after all descriptors were closed."""
        return -1 if self._proc is None else self._proc.fd

    def status(self) -> dict[str, bytes]:
        """Return the fields of /proc/PID/status."""
        try:
            return fields(read_in(self.proc, "status"))
        except own(ProcessLookupError, FileNotFoundError):
            raise self.ended() from None

    def ended(self) -> ProcessLookupError:
        """Return the error for a process that has ended."""
        return ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended")

    def check_alive(self) -> None:
        """Raise ProcessLookupError if it has ended: its ID may be another process's."""
        if has_ended(self.pidfd):
            raise self.ended()

    def check_not_tracer(self) -> None:
        """Raise PermissionError if it traces a thread of the caller.

        It may be the caller's debugger, or hold the caller at the same time. A tracer
        that is stopped never lets its tracee run.
        """
        tracers = {thread.tracer for thread in _threads_of_caller()} - {0}
        if tracers and tracers & {t.tid for t in self.list_threads().threads()}:
            raise self.refusal(
                "it traces the caller, so stopping it could stop both for good: let "
                "only one of the two hold or debug the other"
            )

    def list_threads(self) -> ThreadArray:
        """Return the threads listed, without their states."""
        array = task_list(self.proc)
        if isinstance(array, int):
            raise (
                self.ended()
                if array in (-errno.ENOENT, -errno.ESRCH)
                else _error("/proc/PID/task", array)
            )
        return array

    def threads(self) -> list[Thread]:
        """Return the threads listed, with state and tracer."""
        return self.read_states(self.list_threads())

    def read_states(self, array: ThreadArray) -> list[Thread]:
        """Read state and tracer of listed threads, and return these threads."""
        result = task_status(self.proc, array)
        if result < 0:
            raise _error("/proc/PID/task/TID/status", result)
        return array.threads()

    def has_thread_count(self, stopped: int) -> bool:
        """Return whether it has as many threads as were stopped, so none that runs.

        To be called once they are stopped: only then no thread can be born in between.
        A dead thread must not be among them (a new thread may have its place in the
        count), except the leader, which is counted to the end.
        """
        try:
            return read_stat(self.proc).threads == stopped
        except own(ProcessLookupError, FileNotFoundError):
            raise self.ended() from None

    def leader_runs(self) -> bool:
        """Return whether the leader is not stopped: a first check that costs little."""
        try:
            return read_stat(self.proc).state in "RSDI"
        except own(ProcessLookupError, FileNotFoundError):
            raise self.ended() from None

    def leader_is_exiting(self) -> bool:
        """Return whether the leader has begun to exit, or is gone."""
        try:
            return read_stat(self.proc).is_exiting
        except own(ProcessLookupError, FileNotFoundError):
            return True

    def is_dead(self) -> bool:
        """Return whether every thread is dead."""
        try:
            return all(thread.state in "ZX" for thread in self.threads())
        except own(ProcessLookupError):
            return True

    def refusal(self, reason: str | _reasons.Answer) -> PermissionError:
        """Return the error of a method that can't hold it."""
        return PermissionError(errno.EPERM, f"process {self.pid}: {reason}")

    def check_tracer(self, thread: Thread) -> None:
        """Raise PermissionError if a thread has a tracer that is not about to end."""
        if thread.tracer and not is_ending_tracer(thread.tracer):
            raise self.refusal(
                f"it is traced already, by thread {thread.tracer}: end that tracer, or "
                "hold it by the freezer"
            )

    def late(self, method: str) -> TimeoutError:
        """Return the error of a method that took too long, with a reason."""
        try:
            states = [f"{thread.tid} {thread.state}" for thread in self.threads()[:8]]
            unknown = is_frozen(self.proc, self.pid) is None
        except own(OSError):
            states, unknown = [], False
        return TimeoutError(
            errno.ETIMEDOUT,
            f"process {self.pid} was not stopped in time by {method} (states of its "
            f"threads: {', '.join(states) or 'unknown'}; D: an uninterruptible wait"
            f"{'; whether its cgroup is frozen is hidden here' * unknown}): "
            "allow a longer timeout, or use another method",
        )


def _threads_of_caller() -> list[Thread]:
    """Return the threads of the calling process, with their tracers."""
    own = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    try:
        array = task_list(own)
        if isinstance(array, int) or task_status(own, array) < 0:
            return []
        return array.threads()
    finally:
        os.close(own)


def _error(what: str, result: int) -> OSError:
    return OSError(-result, f"{what}: {os.strerror(-result)}")
