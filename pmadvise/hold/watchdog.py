"""The freezer's watchdog: a process that thaws a cgroup if the caller is killed."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import posix
import select
import signal
import time

from pmadvise._native.base import original
from pmadvise.hold.fds import OwnedFd
from pmadvise.hold.stop import Deadline, pauses

_select = original(select)
_SHELL = "/bin/sh"
_ANSWER = b"42\n"
_DISMISSAL = 1
"""Seconds that it may take to end."""


class Watchdog:
    """A /bin/sh that is deaf to every signal, in a session of its own.

    It reads a pipe. A line dismisses it; at the end of the file, which comes when the
    caller dies, it writes to a control file. When it is ready it answers by a second
    pipe, as /bin/sh may not run (a filter, a limit, another program); the end of file
    there is its own end.

    Args:
        control: File descriptor of the control file; lent for ``start()``.
        text: The text to write to it.
    """

    def __init__(self, control: int, text: str) -> None:
        self._control = control
        # A sum, so that a program that prints its arguments does not pass for a shell.
        self._number = 4 if control == 3 else 3  # dup2(2) of itself sets no flag
        self._script = f"echo $((6 * 7)); read -r x || echo {text} >&{self._number}"
        self._pid = 0
        self._stdin: OwnedFd | None = None
        self._stdout: OwnedFd | None = None
        self._calls: OwnedFd | None = None
        self._answers: OwnedFd | None = None

    def start(self, deadline: Deadline) -> None:
        """Start it, and wait until it watches.

        Raises:
            PermissionError: It does not run; with the reason.
            TimeoutError: It did not answer in time.
        """
        self._stdin, self._calls = OwnedFd.pipe(0)
        self._answers, self._stdout = OwnedFd.pipe(0)
        stdin = self._stdin.fd
        # What the shell complains of, as of a working directory that was deleted, goes
        # nowhere: its standard error can't be written.
        files = {0: stdin, 1: self._stdout.fd, 2: stdin, self._number: self._control}
        try:
            self._pid = _spawn(self._script, files)
        except OSError as error:
            raise _refusal(f"{_SHELL} can't be started ({error.strerror})") from None
        self._close_its_ends()
        poll = _select.poll()
        poll.register(self._answers.fd, _select.POLLIN)
        for _ in deadline.pauses():
            # Short waits, as the caller may give up meanwhile.
            if poll.poll(int(max(0, min(5, deadline.left() * 1000)))):
                break
        else:
            raise TimeoutError(errno.ETIMEDOUT, f"{_SHELL} did not answer in time")
        answer = os.read(self._answers.fd, 100)
        if not answer:
            raise _refusal(f"{_SHELL} ended at once ({self._end()})")
        if answer != _ANSWER:
            raise _refusal(f"{_SHELL} does not work as a shell: it wrote {answer!r}")

    def broken(self) -> str | None:
        """Return why it no longer watches, None if it does."""
        poll = _select.poll()
        if self._answers is None or (fd := self._answers.fd) < 0:
            return None  # the caller closed all descriptors, so it thaws the cgroup
        poll.register(fd, 0)
        if poll.poll(0):
            return "the watchdog of the freezer was killed, which put the hold at risk"
        return None

    def dismiss(self) -> None:
        """End it without a thaw, and reap it; may be called again."""
        self._close_its_ends()
        if self._calls is not None and (fd := self._calls.fd) >= 0:
            with contextlib.suppress(BrokenPipeError):  # it was killed
                os.write(fd, b"\n")
        if self._calls is not None:
            self._calls.close()
        if self._pid:
            self._wait_for_end()
            with contextlib.suppress(
                OSError
            ):  # another wait reaped it, or an ignored SIGCHLD
                posix.waitpid(self._pid, 0)
            self._pid = 0
        if self._answers is not None:
            self._answers.close()

    def _wait_for_end(self) -> None:
        """Wait for its end, and kill it if it takes too long."""
        if self._answers is not None and (fd := self._answers.fd) >= 0:
            poll = _select.poll()
            poll.register(fd, 0)
            if poll.poll(_DISMISSAL * 1000):
                return
        with contextlib.suppress(OSError):
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            for _ in pauses(time.monotonic() + _DISMISSAL):
                if os.waitid(os.P_PID, self._pid, options) is not None:
                    return
            os.kill(self._pid, signal.SIGKILL)  # not yet reaped, so the ID is its own

    def _end(self) -> str:
        """Return how it ended, in words."""
        try:
            _, status = posix.waitpid(self._pid, 0)
        except ChildProcessError:
            return "exit status unknown: another wait in the caller reaped it"
        except OSError as error:
            return f"exit status unknown: {error.strerror}"
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return f"exit status {code}"
        return f"killed by signal {-code}, perhaps a seccomp filter or a limit"

    def _close_its_ends(self) -> None:
        for end in (self._stdin, self._stdout):
            if end is not None:
                end.close()


def _spawn(script: str, files: dict[int, int]) -> int:
    spawn = functools.partial(
        posix.posix_spawn,  # not gevent's, which watches the child
        _SHELL,
        ["sh", "-c", script],
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, i) for i, fd in files.items()],
        setsigmask=signal.valid_signals(),
    )
    try:
        return spawn(setsid=True)
    except NotImplementedError:  # Python was built for a glibc older than 2.26
        return spawn(setpgroup=0)


def _refusal(reason: str) -> PermissionError:
    return PermissionError(
        errno.EPERM,
        f"nothing could thaw the cgroup if the caller were killed: {reason}",
    )
