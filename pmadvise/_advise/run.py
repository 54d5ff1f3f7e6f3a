"""Run: one advise(), from the permission to the Report."""

from __future__ import annotations

import errno
import time
from collections.abc import Generator, Iterator

from pmadvise._advise.engine import Engine
from pmadvise._advise.kernel import Kernel, Rehearsal
from pmadvise._advise.limits import CallerError, Clock, Limits, StopAdvising, attach
from pmadvise._advise.profiles import Source, profile_of
from pmadvise._advise.touch import Touch
from pmadvise._handle.mm import Mm
from pmadvise._native.maps import VmaArray
from pmadvise._native.process_madvise import probe
from pmadvise._origin import own
from pmadvise._record import replaced
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
        limits.check_advice(advice)
        self._mm, self._profile, self._limits = mm, profile_of(advice), limits
        self._clock = Clock(limits)
        kernel = Rehearsal if limits.dry_run else Kernel
        self._kernel = kernel(mm, self._profile, self._clock.check)
        self._ranges = Ranges()
        self._engine: Engine | None = None
        self._touch: Touch | None = None
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
                for pause in self.steps(ranges, sleeps=True):
                    if pause:
                        time.sleep(pause)
                assert self._result is not None
                return self._result
            finally:  # inside, as a signal handler may raise there too
                self._kernel.close()
        except BaseException as error:
            ended: Ended = "refused" if own(PermissionError) else "cancelled"
            raised = error.error if isinstance(error, CallerError) else error
            attach(raised, "report", self._report(ended))
            raise

    def steps(self, ranges: Ranges | None, *, sleeps: bool = False) -> Iterator[float]:
        """Advise as run() does, and yield the seconds to sleep.

        Nothing sleeps meanwhile; with `sleeps` the pauses between calls that follow
        each other are made.
        """
        if ranges is not None:
            self._ranges = ranges
        try:
            self._kernel.open()
            require_permission(self._mm.identity.pidfd, self._profile.advice)
            if self._limits.touch:
                self._kernel.require_touch()
        except own(ProcessLookupError):
            if self._mm.ended() == "exec":
                return self._finish("exec")
            raise
        if self._limits.measure:
            self._before = self._status()
        source: Source | None = None
        absent = Ranges()
        try:
            if ranges is None:
                self._clock.check()
                source = self._source()
                self._ranges = self._select(source)
            if self._limits.touch:
                source = source or self._source()
                absent = source.touchable(self._ranges)
        except StopAdvising as early:
            return self._finish(early.ended)
        except own(ProcessLookupError):  # exec'd or gone meanwhile
            return self._finish(self._mm.ended() or "exited")
        if ranges is None and not len(self._ranges):
            return self._finish(self._mm.ended() or "complete")
        limits = self._limits
        report, more = limits.on_progress, absent.total
        if report is not None and more:
            limits = replaced(limits, on_progress=lambda n, all: report(n, all + more))
        self._engine = Engine(
            self._kernel, self._ranges, self._profile, limits, self._clock
        )
        vmas = source.space._vmas if source is not None else None
        ended = yield from self._engine.steps(vmas, sleeps=sleeps)
        if absent and vmas is not None and ended in ("complete", "budget"):
            ended = yield from self._touch_steps(absent, vmas, ended)
        self._finish(ended)
        return None

    def _touch_steps(
        self, absent: Ranges, vmas: VmaArray, ended: Ended
    ) -> Generator[float, None, Ended]:
        """Read the pages that were advised; return `ended`, or the reason for less."""
        assert self._engine is not None
        account, report = self._engine.account, self._limits.on_progress
        tried = _first(self._ranges, account.done)
        skipped = Ranges((skip.address, skip.length) for skip in account.skipped)
        pages = (absent & tried) - skipped.merged()
        on_progress = None
        if report is not None:
            done, total = account.done, account.requested + absent.total
            on_progress = lambda touched: report(done + touched, total)  # noqa: E731
        cut, _ = vmas.cut(pages._array)
        self._touch = Touch(self._kernel, cut, self._limits, self._clock, on_progress)
        try:
            touch_ended = yield from self._touch.steps()
            return ended if touch_ended == "complete" else touch_ended
        except StopAdvising as early:
            return early.ended

    def selection(self, within: Ranges | None) -> Ranges:
        """Return the ranges that the advice would have by default; advise nothing.

        Raises:
            PermissionError: ptrace read access is missing.
            ProcessLookupError: The process no longer runs in the mm.
        """
        try:
            self._kernel.open()
            source = self._source(within)
            ranges = self._select(source)
            if source.space.stale:
                raise self._mm.identity.gone()
            return ranges
        finally:
            self._kernel.close()

    def _select(self, source: Source) -> Ranges:
        assert self._profile.select is not None
        return self._profile.select(source)

    def _source(self, within: Ranges | None = None) -> Source:
        # One look for all that is read: the engine's first.
        space = AddressSpace(self._mm, verify=False)
        pagemap = self._kernel.pagemap_or_none()
        return Source(space, self._mm, pagemap, self._clock.check, within)

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
            touched=self._touch.touched if self._touch is not None else 0,
        )


def _first(ranges: Ranges, n_bytes: int) -> Ranges:
    """Return the ranges that make up the first bytes, merged."""
    if n_bytes >= ranges.total:
        return ranges.merged()
    taken = []
    for address, length in ranges:
        taken.append((address, min(length, n_bytes)))
        n_bytes -= length
        if n_bytes <= 0:
            break
    return Ranges(taken).merged()
