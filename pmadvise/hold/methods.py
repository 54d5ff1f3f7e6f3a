"""The methods of hold(), and the choice of one.

A new method is a class that implements Stop, and an entry here.
"""

from __future__ import annotations

import errno

from pmadvise._handle.identity import Identity
from pmadvise.hold.freezer import FreezerStop
from pmadvise.hold.ptrace import PtraceStop
from pmadvise.hold.sigstop import SigstopStop
from pmadvise.hold.stop import Deadline, SpentThreadError, Stop, release, retry
from pmadvise.hold.target import HeldProcess, ProcessKey, has_traced

_CLASSES: tuple[type[Stop], ...] = (PtraceStop, FreezerStop, SigstopStop)
METHODS = {cls.method: cls for cls in _CLASSES}
"""The methods by their names, in the order in which "auto" tries them."""


def check_method(name: str, method: str) -> None:
    """Raise TypeError or ValueError, naming the argument, unless it is a method."""
    if not isinstance(method, str):
        raise TypeError(f"{name} {method!r} is not a str but {type(method).__name__}")
    if method not in ("auto", *METHODS):
        raise ValueError(f"{name} {method!r} is not one of auto, {', '.join(METHODS)}")


class MethodChoice:
    """The stop factory of a hold: the method that was named, or the first that works.

    Args:
        identity: Of the process; lent.
        method: A key of METHODS, or "auto".
        whole_cgroup: Whether other processes may be frozen with it.

    Attributes:
        method: The method that was asked for.
        refused: Why the methods tried so far do not work: {method: reason}.
    """

    def __init__(self, identity: Identity, method: str, whole_cgroup: bool) -> None:
        self.method = method
        self.refused: dict[str, str] = {}
        self._identity = identity
        self._key: ProcessKey = 0, 0
        self._whole_cgroup = whole_cgroup
        self._timed_out = False
        self._current: Stop | None = None

    def identify(self) -> ProcessKey:
        """Return the ID and the start time of the process: they name it for ever.

        Raises:
            PermissionError: /proc/PID of the process is hidden.
            ProcessLookupError: It has been reaped.
            ValueError: Its handle is closed.
        """
        stat = self._identity.stat()
        self._key = stat.pid, stat.start_ticks
        return self._key

    def make_stop(self, deadline: Deadline) -> Stop:
        """Stop the process.

        Raises:
            PermissionError: No method works here and now; with the reasons.
            ProcessLookupError: It has ended, or is a kernel thread.
            TimeoutError: It was not stopped in time, and was let go.
            SpentThreadError: Call this again in a new thread.
        """
        if self.method != "auto":
            return self._try(self.method, deadline)
        for method in METHODS:
            if method in self.refused:
                continue
            is_last = method == next(reversed(METHODS))
            try:
                return self._try(method, deadline if is_last else deadline.earlier(0.5))
            except ProcessLookupError:
                raise
            except OSError as error:
                self.refused[method] = error.strerror or str(error)
                self._timed_out = self._timed_out or isinstance(error, TimeoutError)
        reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items())
        if self._timed_out:
            raise TimeoutError(errno.ETIMEDOUT, reasons)
        raise PermissionError(errno.EPERM, reasons)

    def reap(self) -> None:
        """Unblock a make_stop() that waits in the kernel."""
        current = self._current
        if current is not None:
            current.reap()

    def _try(self, method: str, deadline: Deadline) -> Stop:
        if has_traced():
            raise SpentThreadError
        target = HeldProcess(self._identity, self._key, self._whole_cgroup)
        stop: Stop | None = None
        try:
            self._current = stop = METHODS[method](target)
            stop.stop(deadline)
            target.check_not_tracer()
            target.close_pidfd()  # may fail too, and the stop is not lost then
        except BaseException:
            if stop is not None:
                release(stop)
            retry(target.close)
            raise
        finally:
            self._current = None
        return stop
