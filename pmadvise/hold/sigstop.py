"""Hold a process by SIGSTOP, with a SIGCONT in the kernel's hands."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal

from pmadvise._native.descriptor import pidfd_send_signal
from pmadvise._native.task import Thread
from pmadvise._proc.cgroups import is_frozen
from pmadvise._proc.rights import initial_namespace
from pmadvise.hold.deadline import Deadline
from pmadvise.hold.fds import OwnedFd
from pmadvise.hold.target import HeldProcess

_PATIENCE = 3
"""Looks in vain after which the process may be frozen."""


class SigstopStop:
    """The target, stopped by SIGSTOP; left as it is if it was stopped before.

    No process watches over the caller: a pipe does, whose two ends are armed
    (O_ASYNC, F_SETOWN, F_SETSIG) to send SIGCONT to the target. The kernel does so
    on a write to the pipe, which is how it is let go, and when one end has been
    closed, as happens when the caller dies. Both ends, because the order in which the
    kernel closes them is unspecified. The kernel keeps the target itself as the
    receiver, not its number.

    Raises:
        PermissionError: It is traced or frozen; or the caller may not signal it, or
            the kernel, in the caller's name, might not.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not stop in time; it was let go.
    """

    method = "sigstop"

    def __init__(self, target: HeldProcess) -> None:
        self._target = target
        self._pipe: tuple[OwnedFd, ...] = ()

    def stop(self, deadline: Deadline) -> None:
        """Stop the target, if it is not."""
        target = self._target
        looks = 0
        for _ in deadline.pauses():
            if self._pipe and looks < _PATIENCE and target.leader_runs():
                looks += 1
                continue
            threads = target.threads()
            if self._is_stopped(threads):
                return
            self._check_tracers(threads)
            if not self._pipe:
                if any(thread.tracer for thread in threads):
                    continue  # an own one, which is about to end
                self._arm()
            elif looks == _PATIENCE and is_frozen(target.proc):
                raise target.refuse("a frozen process does not take SIGSTOP")
            looks += 1
            # Again and again: an execve(2) may lose one.
            result = pidfd_send_signal(target.pidfd, signal.SIGSTOP)
            if result < 0 and result != -errno.ESRCH:
                raise target.refuse(f"SIGSTOP: {os.strerror(-result)}")
            target.check_alive()
        raise target.late(self.method)

    def broken(self) -> str | None:
        """Return the state of a thread that is not stopped, None if all are."""
        if self._target.proc < 0:
            return "the caller's file descriptors were closed, which let it go"
        if self._is_stopped(self._target.threads()) or self._target.is_dead():
            return None
        return "a SIGCONT from elsewhere let it go"

    def is_over(self) -> bool:
        """Return False: a signal keeps no dead process from its parent."""
        return False

    def reap(self) -> None:
        """Do nothing: the kernel keeps no SIGSTOP waiting."""

    def release(self) -> None:
        """Send SIGCONT, unless it was stopped before."""
        if self._pipe:
            reader, writer = self._pipe
            if (fd := writer.fd) >= 0:
                with contextlib.suppress(BrokenPipeError):  # a release that failed
                    os.write(fd, b"\0")
            for end in (reader, writer):
                if (fd := end.fd) >= 0:
                    # Of all copies of it, wherever they are: a second SIGCONT might
                    # wake what someone else stops next.
                    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
            for end in (reader, writer):
                end.close()
        self._target.close()

    def _arm(self) -> None:
        """Let the kernel send SIGCONT to the target when this process ends."""
        if not self._may_be_sent():
            raise self._target.refuse(
                "if the caller were killed, the kernel could not let it go: that takes "
                "the same user, or root"
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
            raise self._target.refuse(
                "SIGCONT could not be prepared for the case that the caller is killed: "
                f"fcntl: {error.strerror}"
            ) from None
        # It is alive, so the pid was its own when the kernel looked it up.
        self._target.check_alive()

    def _may_be_sent(self) -> bool:
        """Return the answer of sigio_perm() in the kernel's fs/fcntl.c.

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
        ) and self._target.is_all(len(threads))
