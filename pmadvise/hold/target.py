"""A process to be held: its files, its threads, and ways to wait for it."""

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
from pmadvise._proc.files import fields, read_in, read_stat
from pmadvise._proc.pidfds import has_ended
from pmadvise._proc.rights import proc_is_mounted, proc_is_of_own_namespace
from pmadvise.hold.fds import OwnedFd

# PF_EXITING and PF_KTHREAD, include/linux/sched.h
_EXITS, _KERNEL_THREAD = 0x00000004, 0x00200000


_tracers: set[int] = set()


def begin_tracing() -> None:
    """Note that the calling thread may be a target's tracer until it ends."""
    for tid in list(_tracers):
        if task_ended(tid, 0):
            _tracers.discard(tid)
    _tracers.add(task_own())


def has_traced() -> bool:
    """Return whether the calling thread may be a target's tracer until it ends."""
    return task_own() in _tracers


def is_ending_tracer(tid: int) -> bool:
    """Return whether a thread is an earlier hold's, which traces until it ends."""
    return tid in _tracers and not task_ended(tid, 0)


class HeldProcess:
    """A process to be stopped, with file descriptors of its own.

    Args:
        identity: Lent; both file descriptors are copied.
        key: Its ID and its start time, as they were when the hold was asked for.

    Raises:
        ProcessLookupError: It has ended, or is a kernel thread.
        PermissionError: It is the caller, the caller's tracer, or hidden by /proc.
        ValueError: The identity is closed.
    """

    def __init__(self, identity: Identity, key: tuple[int, int]) -> None:
        self.pid = key[0]
        self._pidfd: OwnedFd | None = None
        self._proc: OwnedFd | None = None
        try:
            lent = identity.lend()  # nobody closes them while they are copied
            self._pidfd = OwnedFd.copy(identity.pidfd)
            self._proc = OwnedFd.copy(identity.proc)
            del lent
            self._check(key)
        except BaseException:
            self.close()
            raise

    def _check(self, key: tuple[int, int]) -> None:
        if not proc_is_of_own_namespace():
            raise self.refuse(
                "/proc shows another pid namespace, whose numbers mean other "
                "processes here: mount one of this namespace"
                if proc_is_mounted()
                else "/proc is not mounted: mount it"
            )
        if self.pid == os.getpid():
            raise self.refuse("the caller can't hold itself still")
        try:
            stat = read_stat(self.proc)
            if (stat.pid, stat.start_ticks) != key:
                raise self.ended()
        except (ProcessLookupError, FileNotFoundError):
            raise self.ended() from None
        self.check_alive()
        if stat.flags & _KERNEL_THREAD:
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
        except (ProcessLookupError, FileNotFoundError):
            raise self.ended() from None

    def ended(self) -> ProcessLookupError:
        """Return the error of a process that is no more."""
        return ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended")

    def check_alive(self) -> None:
        """Raise ProcessLookupError if it ended: then its pid may be another's."""
        if has_ended(self.pidfd):
            raise self.ended()

    def check_not_tracer(self) -> None:
        """Raise PermissionError if it traces a thread of the caller.

        It may be the caller's debugger, or hold the caller at the same time: stopped,
        it would never let the caller go.
        """
        tracers = {thread.tracer for thread in _threads_of_caller()} - {0}
        if tracers and tracers & {t.tid for t in self.list_threads().threads()}:
            raise self.refuse(
                "it traces the caller, and stopped it could not let the caller go: two "
                "processes must not hold each other"
            )

    def list_threads(self) -> ThreadArray:
        """Return the threads listed, whose states are not yet read."""
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
        return self.look_at(self.list_threads())

    def look_at(self, array: ThreadArray) -> list[Thread]:
        """Return listed threads with state and tracer."""
        result = task_status(self.proc, array)
        if result < 0:
            raise _error("/proc/PID/task/TID/status", result)
        return array.threads()

    def is_all(self, still: int) -> bool:
        """Return whether `still` threads, found to run no more, are all it has.

        Asked after they were found so: only then no thread can be born in between. A
        dead thread must not be counted among them (its place in the count may be
        another's since), but for the leader, which is counted to the end.
        """
        try:
            return read_stat(self.proc).threads == still
        except (ProcessLookupError, FileNotFoundError):
            raise self.ended() from None

    def leader_runs(self) -> bool:
        """Return whether the leader is not stopped: a first look that costs little."""
        try:
            return read_stat(self.proc).state in "RSDI"
        except (ProcessLookupError, FileNotFoundError):
            raise self.ended() from None

    def leader_exits(self) -> bool:
        """Return whether the leader has begun to exit, or is gone."""
        try:
            return bool(read_stat(self.proc).flags & _EXITS)
        except (ProcessLookupError, FileNotFoundError):
            return True

    def is_dead(self) -> bool:
        """Return whether no thread of it is left to run."""
        try:
            return all(thread.state in "ZX" for thread in self.threads())
        except ProcessLookupError:
            return True

    def refuse(self, reason: str | _reasons.Answer) -> PermissionError:
        """Return the error of a method that can't hold it."""
        return PermissionError(errno.EPERM, f"process {self.pid}: {reason}")

    def check_tracer(self, thread: Thread) -> None:
        """Raise PermissionError if somebody traces a thread and goes on doing so."""
        if thread.tracer and not is_ending_tracer(thread.tracer):
            raise self.refuse(f"it is traced already, by thread {thread.tracer}")

    def late(self, method: str) -> TimeoutError:
        """Return the error of a method that took too long, with a reason."""
        try:
            states = [f"{thread.tid} {thread.state}" for thread in self.threads()[:8]]
        except OSError:
            states = []
        return TimeoutError(
            errno.ETIMEDOUT,
            f"process {self.pid} was not stopped in time by {method} "
            f"(threads and their states: {', '.join(states) or 'unknown'})",
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
