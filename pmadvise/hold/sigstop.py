"""The method "sigstop": SIGSTOP, and a SIGCONT that the kernel is sure to send."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from typing import ClassVar

from pmadvise._native.descriptor import pidfd_send_signal
from pmadvise._native.task import Thread
from pmadvise._proc.cgroups import is_frozen
from pmadvise._proc.rights import initial_namespace
from pmadvise.hold.fds import OwnedFd
from pmadvise.hold.stop import Deadline
from pmadvise.hold.target import DESCRIPTORS_CLOSED, HeldProcess

_PATIENCE = 3
"""Checks that found it running, after which it may be frozen."""


class SigstopStop:
    """The target, stopped by SIGSTOP; left as it is if it was stopped before.

    A pipe takes the place of a process that watches over the caller. Both of its ends
    are armed (O_ASYNC, F_SETOWN, F_SETSIG): the kernel sends SIGCONT to the target on
    a write to the pipe, as ``release()`` does, and when one end is closed, as happens
    when the caller dies. Both ends, because the order in which the kernel closes them
    is unspecified. The kernel keeps the target itself as the receiver, not its ID.

    Raises:
        PermissionError: It is traced or frozen; or the caller may not signal it, or
            the kernel may not do so in the caller's name.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not stop in time.
    """

    method: ClassVar[str] = "sigstop"

    def __init__(self, target: HeldProcess) -> None:
        self._target = target
        self._pipe: tuple[OwnedFd, ...] = ()

    def stop(self, deadline: Deadline) -> None:
        """Stop the target, unless it is stopped."""
        target = self._target
        checks = 0
        for _ in deadline.pauses():
            if self._pipe and checks < _PATIENCE and target.leader_runs():
                checks += 1
                continue
            threads = target.threads()
            if self._is_stopped(threads):
                return
            self._check_tracers(threads)
            if not self._pipe:
                if any(thread.tracer for thread in threads):
                    continue  # a thread of ours, which is about to end
                self._arm()
            elif checks == _PATIENCE and is_frozen(target.proc, target.pid):
                raise target.refusal(
                    "its cgroup is frozen, and SIGSTOP would wait for the thaw: thaw "
                    "it, or hold it by the freezer"
                )
            checks += 1
            # Again and again: an execve(2) may lose a signal.
            result = pidfd_send_signal(target.pidfd, signal.SIGSTOP)
            if result < 0 and result != -errno.ESRCH:
                raise target.refusal(f"SIGSTOP was refused: {os.strerror(-result)}")
            target.check_alive()
        raise target.late(self.method)

    def broken(self) -> str | None:
        """Return why a thread is not stopped, None if all are."""
        if self._target.proc < 0:
            return DESCRIPTORS_CLOSED
        if self._is_stopped(self._target.threads()) or self._target.is_dead():
            return None
        return "a SIGCONT from elsewhere let it go"

    def is_over(self) -> bool:
        """Return False: a target that died is reaped all the same."""
        return False

    def reap(self) -> None:
        """Do nothing: to send SIGSTOP never blocks."""

    def release(self) -> None:
        """Send SIGCONT, unless it was stopped before."""
        if self._pipe:
            reader, writer = self._pipe
            if (fd := writer.fd) >= 0:
                with contextlib.suppress(BrokenPipeError):  # closed by a failed release
                    os.write(fd, b"\0")
            for end in (reader, writer):
                if (fd := end.fd) >= 0:
                    # This disarms every copy of the end, wherever it is: a second
                    # SIGCONT might continue what another process stops next.
                    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
            for end in (reader, writer):
                end.close()
        self._target.close()

    def _arm(self) -> None:
        """Make the kernel send SIGCONT to the target when this process ends."""
        if not self._kernel_may_signal():
            raise self._target.refusal(
                "if the caller were killed, the kernel could not let it go: run as its "
                "user, or as root of the initial user namespace; CAP_KILL is no help"
            )
        self._pipe = OwnedFd.pipe(os.O_NONBLOCK)
        try:
            for end in self._pipe:
                fcntl.fcntl(end.fd, fcntl.F_SETOWN, self._target.pid)
                fcntl.fcntl(end.fd, fcntl.F_SETSIG, signal.SIGCONT)
                fcntl.fcntl(end.fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise self._target.ended() from None
            raise self._target.refusal(
                "the kernel does not take the order to send SIGCONT if the caller is "
                f"killed: fcntl: {error.strerror}"
            ) from None
        # It is alive, so the ID was its own when the kernel looked it up.
        self._target.check_alive()

    def _kernel_may_signal(self) -> bool:
        """Return what sigio_perm() in the kernel's fs/fcntl.c will return.

        Capabilities do not count there, and root is that of the initial user
        namespace.
        """
        if os.geteuid() == 0 and initial_namespace("user"):
            return True
        real, _, saved, _ = map(int, self._target.status()["Uid"].split())
        return not {os.getuid(), os.geteuid()}.isdisjoint((real, saved))

    def _check_tracers(self, threads: list[Thread]) -> None:
        for thread in threads:
            self._target.check_tracer(thread)

    def _is_stopped(self, threads: list[Thread]) -> bool:
        return all(
            (thread.state == "T" and not thread.tracer)
            or (thread.state == "Z" and thread.tid == self._target.pid)
            for thread in threads
        ) and self._target.has_thread_count(len(threads))
