"""Answers of support() about a target: whether it may be advised, and the reason."""

from __future__ import annotations

import os

from pmadvise import _reasons
from pmadvise._arguments import PidfdLike, fileno_of, pin_of
from pmadvise._handle.identity import Identity, open_pidfd
from pmadvise._handle.mm import open_mm
from pmadvise._native.descriptor import Descriptor
from pmadvise._native.process_madvise import probe
from pmadvise._origin import own
from pmadvise._proc.cgroups import memberships
from pmadvise._proc.files import fields, read_in
from pmadvise._proc.pidfds import no_mm, pid_of
from pmadvise._reasons import YES, Answer
from pmadvise._reasons.access import no_attach
from pmadvise._record import record
from pmadvise._support.host import may_reclaim
from pmadvise.advice import Advice


@record
class TargetSupport:
    """The permissions to advise a target and to find its pages."""

    pid: int
    """Its process ID, 0 if unknown."""
    may: Answer
    """Whether it may be advised at all."""
    advice: dict[Advice, Answer]
    """The same for each advice that the kernel accepts for another process."""
    pages: Answer
    """Whether its pages in memory and in swap may be found. If not, ``resident()`` and
    ``swapped()`` fail, and ``pageout()`` advises whole mappings."""
    touch: Answer
    """Whether ``willneed(touch=True)`` may read its pages."""
    reclaim: Answer
    """Whether ``reclaim()`` may be used for its cgroup."""


class TargetAnswers:
    """The answers about one process, which is kept open, or the reason why it can't be.

    Args:
        target: A process ID, or an object with a pidfd.

    Raises:
        TypeError, ValueError: `target` is neither.
        OSError: `target` is the ID of a thread, or no file descriptor is free.
    """

    def __init__(self, target: PidfdLike) -> None:
        self._identity: Identity | None = None
        self._refusal = YES
        if isinstance(target, int):
            self.pid = target
            self._open_pid(target)
        else:
            self.pid = int(getattr(target, "pid", 0))
            with pin_of(target):
                number = fileno_of(target)
                copy = Descriptor.copy_of(number)
            self._open_pidfd(copy, number)

    def _open_pid(self, pid: int) -> None:
        try:
            pidfd = open_pidfd(pid)
        except own(OSError) as error:
            self._refusal = _reasons.of_pidfd_open(error.errno or 0)
            if self._refusal.refused_by in ("argument", "descriptors"):
                raise
        else:
            self._identify(pidfd)

    def _open_pidfd(self, copy: Descriptor, number: int) -> None:
        try:
            self.pid = self.pid or pid_of(copy.fd, number)
        except own(FileNotFoundError):  # no /proc, or of a pid namespace without us
            self.pid = 0
        except own(ProcessLookupError):
            self._refusal = _reasons.no_memory("the process has exited")
            return
        self._identify(copy)

    def _identify(self, pidfd: Descriptor) -> None:
        try:
            self._identity = Identity(pidfd, self.pid)
        except own(ProcessLookupError):  # reaped since
            self._refusal = _reasons.no_memory("the process has exited")

    @property
    def pidfd(self) -> int:
        """The pidfd; -1 if the process can't be opened."""
        return self._identity.pidfd if self._identity is not None else -1

    def close(self) -> None:
        """Close the process."""
        if self._identity is not None:
            self._identity.close()

    def support(self, call: Answer, known: dict[Advice, Answer]) -> TargetSupport:
        """Return the permissions, checked in the order of advise().

        Args:
            call: Whether process_madvise(2) exists.
            known: Whether the kernel knows each advice for another process.
        """
        no = self._no_mm()
        if no is not None:
            return TargetSupport(self.pid, no, dict.fromkeys(known, no), no, no, no)
        answers = {
            advice: self._answer(advice, call, answer)
            for advice, answer in known.items()
        }
        if answers[Advice.COLLAPSE] and not self._may_have_huge_pages():
            answers[Advice.COLLAPSE] = _reasons.huge_pages_disabled()
        no_pages = self._may_open("pagemap")
        pages = YES if no_pages is None else no_pages
        return TargetSupport(
            self.pid,
            answers[Advice.COLD],
            answers,
            pages,
            self._may_touch() if pages else pages,
            self._may_reclaim(),
        )

    def _no_mm(self) -> Answer | None:
        """Return the reason why its address space can't be reached; None if it can."""
        identity = self._identity
        if identity is None:
            return self._refusal
        if identity.is_hidden and not identity.has_ended():
            return _reasons.hidden()
        try:
            open_mm(identity)
        except own(ProcessLookupError):
            why = no_mm(identity.pidfd, -1 if identity.is_hidden else identity.proc)
            return _reasons.no_memory(why or "the process is exiting")
        except own(PermissionError):
            return self._may_open("maps")
        return None

    def _may_have_huge_pages(self) -> bool:
        """Return whether prctl(PR_SET_THP_DISABLE) was not called; Linux 5.0."""
        assert self._identity is not None
        try:
            status = fields(read_in(self._identity.proc, "status"))
        except own(FileNotFoundError, PermissionError, ProcessLookupError):
            return True
        return status.get("THP_enabled") != b"0"

    def _may_open(self, name: str) -> Answer | None:
        """Return the reason why a file of /proc/PID can't be opened; None if it can."""
        assert self._identity is not None
        proc = self._identity.proc
        try:
            Descriptor.open(name, proc).close()
        except own(FileNotFoundError, PermissionError, ProcessLookupError) as error:
            return _reasons.of_proc_file(proc, name, error.errno or 0)
        return None

    def _may_touch(self) -> Answer:
        """Return whether its memory may be read: mem needs the same right."""
        assert self._identity is not None
        proc = self._identity.proc
        return YES if self._may_open("mem") is None else no_attach(proc)

    def _may_reclaim(self) -> Answer:
        assert self._identity is not None
        try:
            found = memberships(self._identity.proc)
        except own(FileNotFoundError, PermissionError, ProcessLookupError):
            return _reasons.hidden()
        return may_reclaim(found, self.pid)

    def _answer(self, advice: Advice, call: Answer, known: Answer) -> Answer:
        pidfd = self.pidfd
        result = probe(pidfd, advice)
        if result == 0:
            # Newer kernels do not check the advice if the caller is the target.
            return known if self.pid == os.getpid() else YES
        if not call:
            return call
        return _reasons.of_process_madvise(pidfd, advice, -result)
