"""A process to be held: what is read of it, and ways to wait for it."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Iterator

from pmadvise import _sys
from pmadvise._host import proc_is_of_own_namespace
from pmadvise._owned import open_at, read_at
from pmadvise._sys import Thread

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD, include/linux/sched.h


class Target:
    """A process, known by a pidfd and the /proc/PID directory that goes with it.

    Args:
        pidfd: Borrowed; used while stopping the target, and never after.
        proc: An O_DIRECTORY descriptor; a copy is kept until ``close()``.

    Raises:
        ProcessLookupError: It has ended, or is a kernel thread.
        PermissionError: /proc is of another pid namespace.
    """

    def __init__(self, pidfd: int, proc: int) -> None:
        self.pidfd = pidfd
        self._proc = open_at(".", os.O_RDONLY | os.O_DIRECTORY, proc)
        try:
            stat = self._stat()
            self.pid = int(stat[0])
            self.start = int(stat[21])
            if not proc_is_of_own_namespace():
                raise self.refuse(
                    "/proc shows another pid namespace, whose numbers mean other "
                    "processes here: mount one of this namespace"
                )
            self.check_alive()
            if int(stat[8]) & _KERNEL_THREAD:
                raise ProcessLookupError(
                    errno.ESRCH, f"process {self.pid} is a kernel thread: not held"
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up the directory; may be called again."""
        self._proc.close()

    @property
    def proc(self) -> int:
        """The /proc/PID directory; -1 after all descriptors were closed."""
        return self._proc.fd

    def read(self, name: str) -> bytes:
        """Return the contents of a file of /proc/PID."""
        return read_at(name, self.proc)

    def _stat(self) -> list[bytes]:
        """Return the fields of proc_pid_stat(5), the first at index 0."""
        try:
            pid, _, rest = self.read("stat").partition(b" (")
        except ProcessLookupError:
            raise self._ended() from None
        return [pid, b"", *rest[rest.rindex(b")") + 1 :].split()]

    def _ended(self) -> ProcessLookupError:
        return ProcessLookupError(errno.ESRCH, "the target has ended")

    def check_alive(self) -> None:
        """Raise ProcessLookupError if it ended: then its pid may be another's."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if poll.poll(0):
            raise self._ended()

    def list_threads(self) -> tuple[_sys.ThreadArray, int]:
        """Return the threads listed, whose states are not yet read."""
        array, n = _sys.task_list(self.proc)
        if n < 0:
            raise self._ended() if n == -errno.ENOENT else _error("/proc/PID/task", n)
        return array, n

    def threads(self) -> list[Thread]:
        """Return the threads listed, with state and tracer."""
        return self.look_at(*self.list_threads())

    def look_at(self, array: _sys.ThreadArray, n: int) -> list[Thread]:
        """Return listed threads with state and tracer."""
        result = _sys.task_status(self.proc, array, n)
        if result < 0:
            raise _error("/proc/PID/task/TID/status", result)
        return _sys.threads_get(array, n)

    def is_all(self, still: int) -> bool:
        """Tell whether `still` threads, seen to run no more, are all it has.

        Asked after they were seen: only then no thread can be born in between. A
        dead thread must not be counted among them (its place in the count may
        since be another's), but for the leader, which is counted to the end.
        """
        return int(self._stat()[19]) == still

    @property
    def dead(self) -> bool:
        """True when no thread of it is left to run."""
        try:
            return all(thread.state in "ZX" for thread in self.threads())
        except ProcessLookupError:
            return True

    def refuse(self, reason: str) -> PermissionError:
        """Return the error of a method that can't hold it."""
        return PermissionError(errno.EPERM, f"process {self.pid}: {reason}")

    def traced(self, tracer: int) -> PermissionError:
        """Return the error of a method that a tracer is in the way of."""
        return self.refuse(f"it is traced already, by thread {tracer}")

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


def pauses(deadline: float) -> Iterator[None]:
    """Yield at once, then after sleeps of 20 us growing to 1 ms, up to `deadline`.

    Args:
        deadline: Of time.monotonic(), in seconds.
    """
    pause = 20e-6
    yield
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, 1e-3)
        yield


def _error(what: str, result: int) -> OSError:
    return OSError(-result, f"{what}: {os.strerror(-result)}")
