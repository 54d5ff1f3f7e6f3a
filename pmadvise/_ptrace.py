"""Hold a process by ptrace(2): unseen by its parent, undone by the caller's death."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress

from pmadvise import _freezer, _sys
from pmadvise._sys import Thread
from pmadvise._target import Target, pauses

_DEATH_CHECK = 0.01
"""Seconds between looks whether a held target was killed."""
_STALLED = 0.005
"""Seconds without an answer after which an execve(2) may wait for our reaping."""


class PtraceStop:
    """Every thread of the target, stopped as a tracee of a thread of its own.

    PTRACE_SEIZE and PTRACE_INTERRUPT on every thread, until none is new and none
    runs. The kernel lets tracees go when their tracer's OS thread ends, however it
    ends: so each stop has its own, which ends with it. Keeps no descriptor.

    Raises:
        PermissionError: It is traced already, or the kernel refuses.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not stop in time; it was let go.
    """

    method = "ptrace"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._deadline = 0.0
        self._threads: tuple[_sys.ThreadArray, int] | None = None
        # Bare locks, released once: an Event is Python code, which an exception of a
        # signal handler may leave in pieces.
        self._settled = threading.Lock()
        self._settled.acquire()
        self._let_go = threading.Lock()
        self._let_go.acquire()
        self._over = False
        self._error: BaseException | None = None
        self._tracer = threading.Thread(
            target=self._run, name=f"pmadvise-hold-{target.pid}", daemon=True
        )

    def take(self, deadline: float) -> None:
        """Stop the target."""
        target = self._target
        # One that is stopped too would keep PTRACE_SEIZE itself waiting.
        if _freezer.frozen(target, versions=(1,)):
            raise target.refuse("a frozen process can't be traced (cgroup v1)")
        self._deadline = deadline
        try:
            self._tracer.start()
        except RuntimeError as error:
            if error.__context__ is not None:
                # A signal handler's exception, and then an unlocked lock on its way
                # through the Event that start() waits for.
                raise error.__context__ from None
            raise OSError(errno.EAGAIN, str(error)) from None
        while not self._settled.acquire(timeout=_STALLED):
            self._reap()
            # The tracer keeps the deadline too, if it is not kept waiting itself.
            if time.monotonic() > deadline + _STALLED:
                raise target.late(self.method)
        if self._error is not None:
            raise self._error
        target.close()

    def broken(self) -> str | None:
        """Return None: only the tracer and SIGKILL end a ptrace stop."""
        return None

    def release(self) -> None:
        """Detach every thread, and wait for the tracer's end."""
        self._over = True
        with suppress(RuntimeError):  # when called again
            self._let_go.release()
        if self._tracer.ident is None:  # not started, or it finds out at once
            self._target.close()
            return
        # Not for ever: a target that hangs in execve(2) hangs the tracer with it.
        self._tracer.join(timeout=1)
        tid = self._tracer.native_id
        for _ in pauses(time.monotonic() + 1):
            try:
                os.sched_getscheduler(tid or 0)
            except ProcessLookupError:
                break

    def _reap(self) -> None:
        """Reap dead tracees, in the caller's thread as the tracer may be blocked.

        An execve(2) in the target waits for the end of its other threads; these
        end when their tracer reaps them, and PTRACE_SEIZE waits for the execve(2).
        """
        try:
            array, n = self._target.list_threads()
        except OSError:
            return  # it ended: the tracer finds out
        _sys.ptrace_reap(array, n, self._target.pid)

    def _run(self) -> None:
        try:
            self._stop()
        except BaseException as error:
            self._error = error
            self._over = True
        self._settled.release()
        if self._threads is not None:
            self._stay(*self._threads)
        # Here, as release() does not wait for ever; closed before if it was stopped.
        self._target.close()

    def _stay(self, array: _sys.ThreadArray, n: int) -> None:
        # SIGKILL ends the stop, and its parent learns of the death when this thread
        # ends. The last thread is asked: the first may be a leader that died before.
        while not self._over and not self._let_go.acquire(timeout=_DEATH_CHECK):
            if _sys.ptrace_stopped(array + (n - 1), 1) == 0:
                break
        # What can't be detached, not being stopped, is when this thread ends.
        _sys.ptrace_detach(array, n)

    def _stop(self) -> None:
        target = self._target
        for _ in pauses(self._deadline):
            if self._over:
                return
            array, n = self._threads = target.list_threads()
            stopped = _sys.ptrace_seize(target.proc, array, n)
            if any(thread.seized < 0 for thread in _sys.threads_get(array, n)):
                stopped += self._refused(target.look_at(array, n))
            if stopped == n and target.is_all(n):
                break
            target.check_alive()
        else:
            raise target.late(self.method)
        target.check_alive()

    def _refused(self, threads: list[Thread]) -> int:
        """Return how many can't be seized as they run no more: a dead leader.

        Raises:
            PermissionError: One can't be, for a reason that won't go away.
        """
        dead_leaders = 0
        for thread in threads:
            if thread.seized == -errno.EXDEV:
                raise self._target.refuse(
                    f"the ID of its thread {thread.tid} became another process's"
                )
            if thread.seized != -errno.EPERM:
                continue
            if thread.state in "ZX":
                dead_leaders += thread.tid == self._target.pid
            elif thread.tracer:
                raise self._target.traced(thread.tracer)
            elif not self._may_trace(thread.tid):
                raise self._target.refuse(
                    "the right to trace it is missing: another user's, non-dumpable, "
                    "or a security module says no (Yama's ptrace_scope); run as its "
                    "user or with CAP_SYS_PTRACE"
                )
        return dead_leaders

    def _may_trace(self, tid: int) -> bool:
        """Tell a refusal for good from one of a thread that dies or is in execve(2).

        Opening its memory takes the same right, PTRACE_MODE_ATTACH.
        """
        path = f"task/{tid}/mem"
        try:
            os.close(os.open(path, os.O_RDONLY, dir_fd=self._target.proc))
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EPERM)
        return True
