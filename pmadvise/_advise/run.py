"""Run: one advise(), from the permission to the Report."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator

from pmadvise._advise.engine import Engine
from pmadvise._advise.kernel import Kernel, Rehearsal
from pmadvise._advise.limits import CallerError, Clock, Limits, StopAdvising, attach
from pmadvise._advise.profiles import Source, profile_of
from pmadvise._handle.mm import Mm
from pmadvise._native.process_madvise import probe
from pmadvise._origin import own
from pmadvise.advice import known
from pmadvise.calls import explain
from pmadvise.maps import AddressSpace
from pmadvise.ranges import Ranges
from pmadvise.report import Ended, Remaining, Report
from pmadvise.status import Status, read_status


def require_permission(pidfd: int, advice: int) -> None:
    """Raise the kernel's refusal of an advice; errors as Process.check()."""
    answer = probe(pidfd, advice)
    if answer < 0:
        raise explain(pidfd, advice, -answer)


class Run:
    """An advise() and its state, from which a Report can be made at any time.

    Args:
        mm: The address space.
        advice: One that may be given to that process.
        limits: When to stop.
    """

    def __init__(self, mm: Mm, advice: int, limits: Limits) -> None:
        self._mm, self._profile, self._limits = mm, profile_of(advice), limits
        self._clock = Clock(limits)
        kernel = Rehearsal if limits.dry_run else Kernel
        self._kernel = kernel(mm, self._profile, self._clock.check)
        self._ranges = Ranges()
        self._engine: Engine | None = None
        self._before: Status | None = None
        self._result: Report | None = None

    @property
    def counted(self) -> int:
        """Bytes that the budget counts, so far; 0 without a budget."""
        return self._engine.counted if self._engine is not None else 0

    def run(self, ranges: Ranges | None) -> Report:
        """Advise ranges, or the default selection; sleep where the target has its turn.

        Raises:
            OSError: The kernel's refusal.
            BaseException: Whatever a callback or a signal handler raises. All that
                leaves this has the Report so far as `.report`.
        """
        try:
            return self.run_covered(ranges)
        except CallerError as cover:
            error = cover.error
        try:
            raise error
        finally:
            del error

    def run_covered(self, ranges: Ranges | None) -> Report:
        """Advise as run() does; the exception of a callback is in a CallerError."""
        try:
            try:
                for pause in self.steps(ranges):
                    if pause:
                        time.sleep(pause)
                assert self._result is not None
                return self._result
            finally:  # inside, as a signal handler may raise there too
                self._kernel.close()
        except BaseException as error:
            ended: Ended = "cancelled"
            if isinstance(error, PermissionError):
                ended = "refused"
            raised = error.error if isinstance(error, CallerError) else error
            attach(raised, "report", self._report(ended))
            raise

    def steps(self, ranges: Ranges | None) -> Iterator[float]:
        """Advise as run() does, without sleeping: yield the seconds to sleep."""
        if ranges is not None:
            self._ranges = ranges
        try:
            self._kernel.open()
            require_permission(self._mm.identity.pidfd, self._profile.advice)
        except own(ProcessLookupError):
            if self._mm.ended() == "exec":
                return self._finish("exec")
            raise
        if self._limits.measure:
            self._before = self._status()
        space: AddressSpace | None = None
        try:
            if ranges is None:
                self._clock.check()
                space, self._ranges = self._select(None)
        except StopAdvising as early:
            return self._finish(early.ended)
        except own(ProcessLookupError):  # exec'd or gone meanwhile
            return self._finish(self._mm.ended() or "exited")
        if space is not None and not len(self._ranges):
            return self._finish(self._mm.ended() or "complete")
        self._engine = Engine(
            self._kernel, self._ranges, self._profile, self._limits, self._clock
        )
        vmas = space._vmas if space is not None else None
        self._finish((yield from self._engine.steps(vmas)))
        return None

    def selection(self, within: Ranges | None) -> Ranges:
        """Return the ranges that the advice would have by default; advise nothing.

        Raises:
            PermissionError: ptrace read access is missing.
            ProcessLookupError: The process no longer runs in the mm.
        """
        try:
            self._kernel.open()
            space, ranges = self._select(within)
            if space.stale:
                raise self._mm.identity.gone()
            return ranges
        finally:
            self._kernel.close()

    def _select(self, within: Ranges | None) -> tuple[AddressSpace, Ranges]:
        assert self._profile.select is not None
        # One look for all that is read: the engine's first.
        space = AddressSpace(self._mm, verify=False)
        pagemap = self._kernel.pagemap_or_none()
        source = Source(space, self._mm, pagemap, self._clock.check, within)
        return space, self._profile.select(source)

    def _finish(self, ended: Ended) -> None:
        """Make the Report of the end, with the target's memory if that is asked."""
        after = remaining = None
        is_moved = self._limits.measure and not self._limits.dry_run
        if is_moved and ended not in ("exec", "exited"):
            if self._profile.reclaims:
                remaining = self._remaining()
            after = self._status()
        self._result = self._report(ended, after, remaining)

    def _status(self) -> Status | None:
        try:
            return read_status(self._mm.identity)
        except own(ProcessLookupError):
            return None

    def _remaining(self) -> Remaining | None:
        try:
            pagemap = self._kernel.pagemap_or_none()
            if pagemap is None:
                return None
            resident = pagemap.resident(self._ranges)
            return Remaining(resident.total, pagemap.shared(resident).total)
        except StopAdvising:
            return None
        except own(OSError) as error:
            if error.errno != errno.ESRCH:
                raise
            return None

    def _report(
        self,
        ended: Ended,
        after: Status | None = None,
        remaining: Remaining | None = None,
    ) -> Report:
        tally, engine = self._kernel.tally, self._engine
        return Report(
            advice=known(self._profile.advice),
            requested=self._ranges.total,
            advised=tally.advised,
            skipped=tuple(engine.account.skipped) if engine is not None else (),
            calls=tally.calls,
            elapsed=self._clock.elapsed(),
            longest_call=tally.longest,
            ended=ended,
            before=self._before,
            after=after,
            remaining=remaining,
        )
