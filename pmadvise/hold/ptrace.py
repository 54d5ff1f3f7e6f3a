"""The method "ptrace": threads stopped as tracees, until their tracer ends."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from typing import ClassVar

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
from pmadvise._reasons.access import no_attach
from pmadvise.hold.stop import Deadline, pauses
from pmadvise.hold.target import HeldProcess, note_tracer

_DETACH = 50e-6
"""Seconds to detach from a thread, reserved within the time for stopping."""
_RESTOP = 1.0
"""Seconds to wait for a process that was stopped before to be stopped again."""


class PtraceStop:
    """Every thread of the target, stopped as a tracee of the calling thread.

    PTRACE_SEIZE and PTRACE_INTERRUPT on every thread, until none is new and none
    runs. The kernel detaches tracees when their tracer's thread ends, however it ends.
    Keeps no descriptor.

    Raises:
        PermissionError: It is traced already, or the kernel refuses.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not stop in time.
    """

    method: ClassVar[str] = "ptrace"

    def __init__(self, target: HeldProcess) -> None:
        self._target = target
        self._threads: ThreadArray | None = None
        self._last_thread: ThreadArray | None = None

    def stop(self, deadline: Deadline) -> None:
        """Stop the target."""
        target = self._target
        # PTRACE_SEIZE of a thread both stopped and frozen waits for the thaw.
        if any(t.state in "DT" for t in target.threads()) and is_frozen(
            target.proc, target.pid, versions=(1,)
        ):
            raise target.refusal(
                "its cgroup (v1) is frozen, and ptrace would wait for the thaw: thaw it"
            )
        if number := ptrace_refused():
            raise target.refusal(_reasons.refused_by_seccomp("ptrace", number))
        note_tracer()
        for _ in deadline.pauses():
            array = self._threads = target.list_threads()
            latest = deadline.at - len(array) * _DETACH
            stopped = ptrace_seize(target.proc, array, latest)
            if array.any_refused():
                stopped += self._check_refusals(target.read_states(array))
            if stopped == len(array) and target.has_thread_count(stopped):
                break
            target.check_alive()
            if time.monotonic() > latest:
                raise target.late(self.method)
        else:
            raise target.late(self.method)
        target.check_alive()
        self._last_thread = array.last()

    def broken(self) -> str | None:
        """Return None: only the tracer and SIGKILL end a ptrace stop."""
        return None

    def is_over(self) -> bool:
        """Return whether it was killed: of its last thread, as a leader may be dead."""
        return self._last_thread is not None and ptrace_stopped(self._last_thread) == 0

    def reap(self) -> None:
        """Reap dead tracees, from another thread, as the tracer may be blocked.

        An execve(2) in the target waits for the end of its other threads; these
        end when their tracer reaps them, and PTRACE_SEIZE waits for the execve(2).
        """
        array = task_list(self._target.proc)
        if isinstance(array, ThreadArray):
            ptrace_reap(array, self._target.pid)

    def release(self) -> None:
        """Detach every thread; those not stopped are detached when this thread ends."""
        self._last_thread = None
        if self._threads is not None:
            if ptrace_detach(self._threads):
                self._wait_until_stopped()
            self._threads = None
        self._target.close()

    def _wait_until_stopped(self) -> None:
        """Wait until a process that was stopped before is shown as stopped again.

        For a moment after the detach it is shown as running, and a hold that stopped it
        then would continue it afterwards.
        """
        for _ in pauses(time.monotonic() + _RESTOP):
            try:
                states = {thread.state for thread in self._target.threads()}
            except OSError:
                return  # it died, or the caller closed all its descriptors
            # A thread that sleeps is not stopped: a SIGCONT came during the hold.
            if states <= set("TtZX") or not states.isdisjoint("SDI"):
                return

    def _check_refusals(self, threads: Iterable[Thread]) -> int:
        """Return how many can't be seized as they are dead: 1 for a leader, else 0.

        Raises:
            PermissionError: A thread can't be seized, and no retry would help.
        """
        dead_leaders = 0
        for thread in threads:
            if thread.seized == -errno.EXDEV:
                raise self._target.refusal(
                    f"the ID of its thread {thread.tid} became another process's"
                )
            if thread.seized not in (-errno.EPERM, -errno.EACCES):
                continue
            if thread.state in "ZX":
                dead_leaders += thread.tid == self._target.pid
            elif thread.tracer:
                self._target.check_tracer(thread)
            elif not self._can_open(f"task/{thread.tid}/mem"):
                raise self._target.refusal(no_attach(self._target.proc))
        return dead_leaders

    def _can_open(self, name: str) -> bool:
        """Return whether the caller has the right to open a file of /proc/PID.

        For mem of a thread this is PTRACE_MODE_ATTACH, the right that PTRACE_SEIZE
        needs. A thread that has it was refused because it dies or is in execve(2).
        """
        try:
            os.close(os.open(name, os.O_RDONLY, dir_fd=self._target.proc))
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EPERM)
        return True
