"""What support() tells about a target: may it be advised, and if not, why not."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from pmadvise import _host, _sys
from pmadvise._answers import YES, Answer, no_cap_sys_nice
from pmadvise._host import how_to_add, how_to_allow
from pmadvise._identity import directory_of, pid_of, why_no_mm
from pmadvise.advice import Advice
from pmadvise.calls import PidfdLike, explain, fileno_of, pidfd_open
from pmadvise.maps import Mm, read_proc


@dataclass(frozen=True, slots=True)
class TargetSupport:
    """What may be done to a target."""

    pid: int
    """Its process ID, 0 where that can't be told."""
    may: Answer
    """Whether it may be advised at all."""
    advice: dict[Advice, Answer]
    """The same, for each advice that another process takes."""


class Target:
    """A process that was asked about: pidfd and /proc directory, as Process has them.

    Args:
        target: A process ID, or what has a pidfd.
    """

    def __init__(self, target: PidfdLike) -> None:
        self.pid, self.pidfd, self._proc = 0, -1, -1
        self._error: OSError | None = None
        self._opened = isinstance(target, int)
        try:
            if isinstance(target, int):
                self.pid = target
                self.pidfd = pidfd_open(target)
            else:
                self.pidfd = fileno_of(target)
                self.pid = getattr(target, "pid", 0) or pid_of(self.pidfd)
            self._proc = directory_of(self.pidfd)
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.EPERM, errno.ENOSYS):
                self.close()
                raise
            self._error = error  # to be said, not raised
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what was opened here."""
        for fd in (self._proc, self.pidfd if self._opened else -1):
            if fd >= 0:
                os.close(fd)

    def support(self, call: Answer, known: dict[Advice, Answer]) -> TargetSupport:
        """Ask in the order in which advise() does."""
        no = self._no_access()
        if no is not None:
            return TargetSupport(self.pid, no, dict.fromkeys(known, no))
        answers = {one: self._answer(one, call, known[one]) for one in known}
        return TargetSupport(self.pid, answers[Advice.COLD], answers)

    def _no_access(self) -> Answer | None:
        """Return why its address space can't be reached."""
        if self._error is not None:
            return self._as_answer(self._error)
        try:
            mm = Mm(self._proc)
            try:
                if mm.current:
                    return None
            finally:
                mm.close()
        except (PermissionError, ProcessLookupError) as error:
            if isinstance(error, ProcessLookupError):
                return self._no_memory()
            if self._proc >= 0:
                return self._no_ptrace(error.errno or 0)
            return self._as_answer(error)
        return self._no_memory()

    def _no_memory(self) -> Answer:
        why = why_no_mm(self.pidfd, self._proc) or "is just changing it in exec"
        return Answer(False, "memory", errno.ESRCH, f"process {self.pid}: {why}")

    def _as_answer(self, error: OSError) -> Answer:
        reason = error.strerror or str(error)
        if error.errno == errno.EACCES:
            return Answer(
                False,
                "proc",
                errno.EACCES,
                reason,
                "run as root, or mount /proc without hidepid and for this namespace",
            )
        if error.errno == errno.ESRCH:
            return Answer(False, "exited", errno.ESRCH, reason)
        return Answer(False, "seccomp", error.errno, reason, how_to_allow("pidfd_open"))

    def _answer(self, advice: Advice, call: Answer, known: Answer) -> Answer:
        result = _sys.probe(self.pidfd, advice)
        if result == 0:
            return YES
        if not call:
            return call
        if result == -errno.EINVAL and not known:
            return known
        if result == -errno.EPERM:
            return no_cap_sys_nice()
        if result == -errno.EACCES:
            return self._no_ptrace(errno.EACCES)
        if result == -errno.ESRCH:
            return self._no_memory()
        error = explain(self.pidfd, advice, -result)
        return Answer(False, "kernel", -result, error.strerror or str(error))

    def _no_ptrace(self, number: int) -> Answer:
        """Tell what stands in the way of ptrace read access: __ptrace_may_access()."""
        try:
            theirs = _host.status(read_proc(self._proc, "status"))
            shown = os.stat("maps", dir_fd=self._proc).st_uid
        except (OSError, ValueError):
            theirs, shown = {}, None
        why, mend = _host.why_no_ptrace(theirs, shown)
        more = how_to_add("SYS_PTRACE")
        return Answer(
            False,
            "ptrace",
            number,
            f"ptrace read access to process {self.pid} is refused: {why}",
            "" if mend is None else f"{mend}{', or ' * bool(mend)}{more}",
        )
