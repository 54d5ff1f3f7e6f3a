"""Hold a process still while its memory is looked at and advised."""

from __future__ import annotations

import errno
import math
import operator
import os
import time
from types import TracebackType

from pmadvise._freezer import FreezerStop
from pmadvise._join import Shared, Stop, join, leave
from pmadvise._ptrace import PtraceStop
from pmadvise._sigstop import SigstopStop
from pmadvise._target import Target

METHODS = ("ptrace", "freezer", "sigstop")
"""What "auto" tries, in this order."""


def hold(
    pidfd: int,
    proc: int,
    method: str = "auto",
    timeout: float = 1.0,
    whole_cgroup: bool = False,
) -> Hold:
    """Return a context manager; the process does not run while its block does.

    It runs on when the block ends, when it raises, and when the caller is killed,
    with SIGKILL too and also after it forked (unless the fork was one that Python
    does not see); but a frozen one stays frozen if the caller's whole cgroup is
    killed at once. Holds of one process in one process join: a later one takes part
    in the earlier, whatever its method, and the last lets go.

    - "ptrace": PTRACE_SEIZE and PTRACE_INTERRUPT on every thread. Its parent sees
      nothing; nobody but SIGKILL ends it. The caller gets SIGCHLD, and while it is
      being stopped a wait elsewhere in the caller, for any child or, if the process
      is the caller's own child, for that one, may return the stop.
    - "freezer": its cgroup is frozen: cgroup.freeze of v2, freezer.state of v1 (there
      SIGKILL waits for the end of the hold). A tiny /bin/sh child watches over the
      caller meanwhile. A move to another cgroup ends it.
    - "sigstop": SIGSTOP, and SIGCONT afterwards unless it was stopped before. Its
      parent is told, so a shell takes it for a stopped job; anybody's SIGCONT ends it.

    A blocked system call of the target may end with EINTR under each of them
    (signal(7) lists which).

    Args:
        pidfd: Of the process, verified to be the one of `proc`. Borrowed until the
            block begins.
        proc: Its /proc/PID directory, O_DIRECTORY; borrowed likewise.
        method: "ptrace", "freezer", "sigstop", or "auto": the first of these that
            works.
        timeout: Seconds for the process to be stopped, all methods of "auto"
            together: each but the last may take half of what is left.
        whole_cgroup: Allow "freezer" to freeze other processes with it.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: There is no such method, or the timeout is negative or NaN.
    """
    if not isinstance(method, str):
        raise TypeError(f"method {method!r} is not a str but {type(method).__name__}")
    if method != "auto" and method not in METHODS:
        raise ValueError(f"method {method!r} is none of auto, {', '.join(METHODS)}")
    if not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout {timeout!r} is no number of seconds")
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"timeout {timeout!r} is not 0 s or longer")
    if not isinstance(whole_cgroup, bool):
        raise TypeError(f"whole_cgroup {whole_cgroup!r} is not a bool")
    return Hold(
        operator.index(pidfd), operator.index(proc), method, timeout, whole_cgroup
    )


class Hold:
    """A process held still: the context manager that ``hold()`` returns.

    It can be entered once. Entering raises PermissionError when the method, or none
    for "auto", can hold the process here and now, with the reason; TimeoutError when
    it can't be stopped in time, and it was let go; ProcessLookupError when it has
    ended or is a kernel thread. Leaving does not raise, even if the process died.

    Attributes:
        method: What holds it; before entering what was asked for.
        refused: Why the methods tried before, or the one asked for when an earlier
            hold was joined, do not: {method: reason}.
        broken: Set on leaving: None if the process did not run for as long as the
            block did; else what is known to have ended the hold from outside
            (SIGCONT, a move to another cgroup, a thaw), so that what was seen of it
            in the block may no longer have been true when it was used.
    """

    __slots__ = (
        "_key",
        "_owner",
        "_pidfd",
        "_proc",
        "_stop",
        "_timeout",
        "_token",
        "_whole_cgroup",
        "broken",
        "method",
        "refused",
    )

    def __init__(
        self, pidfd: int, proc: int, method: str, timeout: float, whole_cgroup: bool
    ) -> None:
        self.method = method
        self.refused: dict[str, str] = {}
        self.broken: str | None = None
        self._pidfd = pidfd
        self._proc = proc
        self._timeout = timeout
        self._token = object()  # stands for this Hold, and does not keep it alive
        self._whole_cgroup = whole_cgroup
        self._owner = 0  # pid of the process whose hold it is; 0: not yet entered
        self._key: tuple[str, int, int] | None = None
        self._stop: Stop | None = None

    def __enter__(self) -> Hold:
        if self._owner:
            raise RuntimeError("a Hold can be entered once: ask for a new one")
        self._owner = os.getpid()
        try:
            self._enter(time.monotonic() + self._timeout)
        except BaseException:
            self._leave()
            raise
        # Nothing is called from here on: no signal handler may raise in between.
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def __del__(self) -> None:
        # For a KeyboardInterrupt between the end of the block and __exit__.
        self._leave()

    def _enter(self, deadline: float) -> None:
        asked = self.method
        target = Target(self._pidfd, self._proc)
        try:
            if target.pid == self._owner:
                raise target.refuse("the caller can't hold itself still")
            self._key = "process", target.pid, target.start
        finally:
            target.close()
        self._stop = join(
            self._key,
            self._token,
            deadline,
            lambda shared: self._take(shared, deadline),
        )
        self.method = self._stop.method
        if asked not in ("auto", self.method):
            self.refused[asked] = f"joined an earlier hold, by {self.method}"

    def _take(self, shared: Shared, deadline: float) -> None:
        if self.method != "auto":
            return self._take_by(self.method, shared, deadline)
        late = False
        for method in METHODS:
            now = time.monotonic()
            last = method == METHODS[-1]
            share = deadline if last else now + (deadline - now) / 2
            try:
                return self._take_by(method, shared, share)
            except ProcessLookupError:
                raise
            except OSError as error:
                self.refused[method] = error.strerror or str(error)
                late = late or isinstance(error, TimeoutError)
                if shared.stop is not None:
                    shared.stop.release()
                    shared.stop = None
        reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items())
        if late:
            raise TimeoutError(errno.ETIMEDOUT, reasons)
        raise PermissionError(errno.EPERM, reasons)

    def _take_by(self, method: str, shared: Shared, deadline: float) -> None:
        target = Target(self._pidfd, self._proc)
        if method == "ptrace":
            shared.stop = PtraceStop(target)
        elif method == "freezer":
            shared.stop = FreezerStop(target, self._whole_cgroup)
        else:
            shared.stop = SigstopStop(target)
        shared.stop.take(deadline)

    def _leave(self) -> None:
        try:
            self._leave_once()
        except BaseException:  # interrupted: what is not yet done is done now
            self._leave_once()
            raise

    def _leave_once(self) -> None:
        if self._key is not None and self._owner == os.getpid():
            broken = leave(self._key, self._token, self._stop)
            self.broken = self.broken or broken
            self._key = None
