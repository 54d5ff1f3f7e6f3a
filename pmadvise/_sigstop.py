"""Hold a process by SIGSTOP, with a SIGCONT in the kernel's hands."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from contextlib import suppress

from pmadvise import _freezer, _sys
from pmadvise._owned import Owned
from pmadvise._sys import Thread
from pmadvise._target import Target, pauses

_INITIAL_USER_NAMESPACE = 0xEFFFFFFD  # PROC_USER_INIT_INO, include/linux/proc_ns.h


class SigstopStop:
    """The target, stopped by SIGSTOP; left as it is if it was stopped before.

    No process watches over the caller: a pipe does, whose two ends are armed
    (O_ASYNC, F_SETOWN, F_SETSIG) to send SIGCONT to the target. The kernel does so
    on a write to the pipe, which is how it is let go, and when one end has been
    closed, as happens when the caller dies. Both ends, as which is closed first is
    for the kernel to say. The kernel keeps the target itself as the receiver, not
    its number.

    Raises:
        PermissionError: It is traced or frozen; or the caller may not signal it, or
            the kernel, in the caller's name, might not.
        ProcessLookupError: It ended.
        TimeoutError: A thread did not stop in time; it was let go.
    """

    method = "sigstop"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pipe: tuple[Owned, ...] = ()

    def take(self, deadline: float) -> None:
        """Stop the target, if it is not."""
        target = self._target
        threads = target.threads()
        self._check_traced(threads)
        if self._stopped(threads):
            return
        if _freezer.frozen(target):
            raise target.refuse("a frozen process does not take SIGSTOP")
        self._arm()
        for _ in pauses(deadline):
            # Again and again: an execve(2) may lose one.
            result = _sys.pidfd_send_signal(target.pidfd, signal.SIGSTOP)
            if result < 0 and result != -errno.ESRCH:
                raise target.refuse(f"SIGSTOP: {os.strerror(-result)}")
            threads = target.threads()
            self._check_traced(threads)
            if self._stopped(threads):
                return
            target.check_alive()
        raise target.late(self.method)

    def broken(self) -> str | None:
        """Return the state of a thread that is not stopped, None if all are."""
        if self._target.proc < 0:
            return "the caller's file descriptors were closed, which let it go"
        if self._target.dead:
            return None
        threads = self._target.threads()
        if self._stopped(threads) or self._target.dead:
            return None
        return "a SIGCONT from elsewhere let it go"

    def release(self) -> None:
        """Send SIGCONT, unless it was stopped before."""
        if self._pipe:
            reader, writer = self._pipe
            if (fd := writer.fd) >= 0:
                with suppress(BrokenPipeError):  # the rest of an interrupted release
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
        """Have the kernel send SIGCONT to the target when this process ends."""
        if not self._may_be_sent():
            raise self._target.refuse(
                "if the caller were killed, the kernel could not let it go: that takes "
                "the same user, or root"
            )
        self._pipe = Owned.take(lambda: os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
        for end in self._pipe:
            fcntl.fcntl(end.fd, fcntl.F_SETOWN, self._target.pid)
            fcntl.fcntl(end.fd, fcntl.F_SETSIG, signal.SIGCONT)
            fcntl.fcntl(end.fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        # It is alive, so the pid was its own when the kernel looked it up.
        self._target.check_alive()

    def _may_be_sent(self) -> bool:
        """Tell what sigio_perm() in the kernel's fs/fcntl.c will say.

        Capabilities do not count there, and root is that of the initial user
        namespace.
        """
        mine = {os.getuid(), os.geteuid()}
        namespace = os.stat("/proc/self/ns/user").st_ino
        if os.geteuid() == 0 and namespace == _INITIAL_USER_NAMESPACE:
            return True
        for line in self._target.read("status").splitlines():
            if line.startswith(b"Uid:"):
                real, _, saved, _ = map(int, line.split()[1:])
                return not mine.isdisjoint((real, saved))
        return False

    def _check_traced(self, threads: list[Thread]) -> None:
        for thread in threads:
            if thread.tracer:
                raise self._target.traced(thread.tracer)

    def _stopped(self, threads: list[Thread]) -> bool:
        return all(
            thread.state == "T"
            or (thread.state == "Z" and thread.tid == self._target.pid)
            for thread in threads
        ) and self._target.is_all(len(threads))
