"""Hold a process by ptrace(2): unseen by its parent, undone by the caller's death."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable

from pmadvise import _reasons
from pmadvise._native.ptrace import (
    ptrace_detach,
    ptrace_reap,
    ptrace_refused,
    ptrace_seize,
    ptrace_stopped,
)
from pmadvise._native.task import Thread, ThreadArray, task_list
from pmadvise._proc.cgroups import is_frozen
from pmadvise.hold.deadline import Deadline, pauses
from pmadvise.hold.target import HeldProcess, begin_tracing

_DETACH = 50e-6
"""Seconds that detaching from a thread may take, kept from the time for stopping."""
_RESTOP = 1.0
"""Seconds to wait for a process to be stopped anew as it was before."""


class PtraceStop:
    """Every thread of the target, stopped as a tracee of the calling thread.

    PTRACE_SEIZE and PTRACE_INTERRUPT on every thread, until none is new and none
    runs. The kernel lets tracees go when their tracer's thread ends, however it ends.
    Keeps no descriptor.

    Raises:
        PermissionError: It is traced already, or the kernel refuses.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not stop in time; it was let go.
    """

    method = "ptrace"

    def __init__(self, target: HeldProcess) -> None:
        self._target = target
        self._threads: ThreadArray | None = None
        self._last: ThreadArray | None = None

    def stop(self, deadline: Deadline) -> None:
        """Stop the target."""
        target = self._target
        # One that is stopped too would keep PTRACE_SEIZE itself waiting.
        if any(t.state in "DT" for t in target.threads()) and is_frozen(
            target.proc, versions=(1,)
        ):
            raise target.refuse("a frozen process can't be traced (cgroup v1)")
        if number := ptrace_refused():
            raise target.refuse(_reasons.refused_by_seccomp("ptrace", number))
        begin_tracing()
        for _ in deadline.pauses():
            array = self._threads = target.list_threads()
            latest = deadline.at - len(array) * _DETACH
            stopped = ptrace_seize(target.proc, array, latest)
            if array.any_refused():
                stopped += self._check_refusals(target.look_at(array))
            if stopped == len(array) and target.is_all(stopped):
                break
            target.check_alive()
            if time.monotonic() > latest:
                raise target.late(self.method)
        else:
            raise target.late(self.method)
        target.check_alive()
        self._last = array.last()

    def broken(self) -> str | None:
        """Return None: only the tracer and SIGKILL end a ptrace stop."""
        return None

    def is_over(self) -> bool:
        """Return whether it was killed; the last thread tells, a leader may be dead."""
        return self._last is not None and ptrace_stopped(self._last) == 0

    def reap(self) -> None:
        """Reap dead tracees, in another thread as the tracer may be blocked.

        An execve(2) in the target waits for the end of its other threads; these
        end when their tracer reaps them, and PTRACE_SEIZE waits for the execve(2).
        """
        array = task_list(self._target.proc)
        if isinstance(array, ThreadArray):
            ptrace_reap(array, self._target.pid)

    def release(self) -> None:
        """Detach every thread; those not stopped are detached when this thread ends."""
        self._last = None
        if self._threads is not None:
            if ptrace_detach(self._threads):
                self._wait_until_stopped()
            self._threads = None
        self._target.close()

    def _wait_until_stopped(self) -> None:
        """Wait until a process that was stopped before shows it.

        For a moment after the detach it looks as if it ran, and somebody who then
        stops it would wake it afterwards.
        """
        for _ in pauses(time.monotonic() + _RESTOP):
            try:
                states = {thread.state for thread in self._target.threads()}
            except OSError:
                return  # it died, or the caller closed all its descriptors
            # One that sleeps runs: a SIGCONT came while it was held.
            if states <= set("TtZX") or not states.isdisjoint("SDI"):
                return

    def _check_refusals(self, threads: Iterable[Thread]) -> int:
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
            if thread.seized not in (-errno.EPERM, -errno.EACCES):
                continue
            if thread.state in "ZX":
                dead_leaders += thread.tid == self._target.pid
            elif thread.tracer:
                self._target.check_tracer(thread)
            elif not self._can_open(f"task/{thread.tid}/mem"):
                raise self._target.refuse(self._why_not_traced())
        return dead_leaders

    def _why_not_traced(self) -> str | _reasons.Answer:
        if not self._can_open("maps"):
            return _reasons.no_ptrace(self._target.proc, errno.EPERM)
        return (
            "it may be read but not traced, by the rule of a security module (Yama: "
            "sysctl kernel.yama.ptrace_scope): run as root, or "
            + _reasons.how_to_add("SYS_PTRACE")
        )

    def _can_open(self, name: str) -> bool:
        """Return whether a file of /proc/PID opens, which tells a right.

        For mem of a thread that is PTRACE_MODE_ATTACH, as PTRACE_SEIZE takes: that
        tells a refusal for good from one of a thread that dies or is in execve(2).
        """
        try:
            os.close(os.open(name, os.O_RDONLY, dir_fd=self._target.proc))
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EPERM)
        return True
