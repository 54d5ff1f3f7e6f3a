"""Which method stops a process: one that was named, or the first that works."""

from __future__ import annotations

import errno

from pmadvise._proc.identity import Identity
from pmadvise.hold.deadline import Deadline
from pmadvise.hold.freezer import FreezerStop
from pmadvise.hold.ptrace import PtraceStop
from pmadvise.hold.sigstop import SigstopStop
from pmadvise.hold.stop import SpentThreadError, Stop, insist, release
from pmadvise.hold.target import HeldProcess, has_traced

METHODS = ("ptrace", "freezer", "sigstop")
"""The order in which "auto" tries them."""


class Choice:
    """What a hold asks for.

    Args:
        identity: Of the process; lent.
        method: One of METHODS, or "auto".
        whole_cgroup: Whether other processes may be frozen with it.

    Attributes:
        method: What was asked for.
        refused: Why the methods tried so far do not work: {method: reason}.
    """

    def __init__(self, identity: Identity, method: str, whole_cgroup: bool) -> None:
        self.method = method
        self.refused: dict[str, str] = {}
        self._identity = identity
        self._key = 0, 0
        self._late = False
        self._whole_cgroup = whole_cgroup
        self._trying: Stop | None = None

    def identify(self) -> tuple[int, int]:
        """Return the ID and the start time of the process: they name it for ever.

        Raises:
            PermissionError: /proc/PID of the process is hidden.
            ProcessLookupError: It has been reaped.
            ValueError: Its handle is closed.
        """
        stat = self._identity.stat()
        self._key = stat.pid, stat.start_ticks
        return self._key

    def take(self, deadline: Deadline) -> Stop:
        """Stop the process.

        Raises:
            PermissionError: No method works here and now; with the reasons.
            ProcessLookupError: It has ended, or is a kernel thread.
            TimeoutError: It was not stopped in time, and it was let go.
            SpentThreadError: This is to be called again, in another thread.
        """
        if self.method != "auto":
            return self._try(self.method, deadline)
        for method in METHODS:
            if method in self.refused:
                continue
            last = method == METHODS[-1]
            try:
                return self._try(method, deadline if last else deadline.part(0.5))
            except ProcessLookupError:
                raise
            except OSError as error:
                self.refused[method] = error.strerror or str(error)
                self._late = self._late or isinstance(error, TimeoutError)
        reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items())
        if self._late:
            raise TimeoutError(errno.ETIMEDOUT, reasons)
        raise PermissionError(errno.EPERM, reasons)

    def reap(self) -> None:
        """Help a stop that the kernel keeps waiting."""
        trying = self._trying
        if trying is not None:
            trying.reap()

    def _try(self, method: str, deadline: Deadline) -> Stop:
        if has_traced():
            raise SpentThreadError
        target = HeldProcess(self._identity, self._key)
        stop: Stop | None = None
        try:
            self._trying = stop = self._stop_of(target, method)
            stop.stop(deadline)
            target.check_not_tracer()
            target.close_pidfd()  # may fail too, and the stop is not lost then
        except BaseException:
            if stop is not None:
                release(stop)
            insist(target.close)
            raise
        finally:
            self._trying = None
        return stop

    def _stop_of(self, target: HeldProcess, method: str) -> Stop:
        if method == "ptrace":
            return PtraceStop(target)
        if method == "freezer":
            return FreezerStop(target, self._whole_cgroup)
        return SigstopStop(target)
