"""One advise() from permission to Report."""

from __future__ import annotations

import errno

from pmadvise._advise.clock import Clock, StopAdvising
from pmadvise._advise.engine import Engine
from pmadvise._advise.limits import Limits
from pmadvise._advise.profiles import Profile, Source, profile_of
from pmadvise._advise.target import Target
from pmadvise._native.process_madvise import probe
from pmadvise._proc.mm import Mm
from pmadvise.advice import known
from pmadvise.calls import explain
from pmadvise.calls import unaligned as unaligned_error
from pmadvise.maps import AddressSpace
from pmadvise.ranges import Ranges, RangesLike
from pmadvise.report import Ended, Remaining, Report
from pmadvise.status import Status, read_status


def checked_ranges(ranges: RangesLike) -> Ranges:
    """Return ranges that can be advised.

    Raises:
        TypeError, ValueError: As Ranges; or an address is not page-aligned.
    """
    if not isinstance(ranges, Ranges):
        ranges = Ranges(ranges)
    unaligned = ranges.array.first_unaligned()
    if unaligned != len(ranges):
        raise unaligned_error(ranges, unaligned)
    return ranges


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
        self._target = Target(mm, self._profile, self._clock.check)
        self._ranges = Ranges()
        self._engine: Engine | None = None
        self._before: Status | None = None

    def run(self, ranges: Ranges | None) -> Report:
        """Advise ranges, or the default selection.

        Raises:
            OSError: The kernel's refusal.
            BaseException: Whatever a callback or a signal handler raises. All that
                leaves this has the Report so far as `.report`.
        """
        try:
            try:
                return self._run(ranges)
            finally:  # inside, as a signal handler may raise there too
                self._target.close()
        except BaseException as error:
            # Past any __setattr__ of its own: some exceptions are frozen.
            BaseException.__setattr__(error, "report", self._report("cancelled"))
            raise

    def _run(self, ranges: Ranges | None) -> Report:
        if ranges is not None:
            self._ranges = ranges
        try:
            self._target.open()
            require_permission(self._mm.identity.pidfd, self._profile.advice)
        except ProcessLookupError:
            if self._mm.ended() == "exec":
                return self._measured("exec")
            raise
        if self._limits.measure:
            self._before = self._status()
        space: AddressSpace | None = None
        try:
            if ranges is None:
                self._clock.check()
                space, self._ranges = self._select(self._profile)
        except StopAdvising as early:
            return self._measured(early.ended)
        except ProcessLookupError:  # exec'd or gone meanwhile
            return self._measured(self._mm.ended() or "exited")
        if space is not None and not len(self._ranges):
            return self._measured(self._mm.ended() or "complete")
        self._engine = Engine(
            self._target, self._ranges, self._profile, self._limits, self._clock
        )
        return self._measured(self._engine.run(space))

    def _select(self, profile: Profile) -> tuple[AddressSpace, Ranges]:
        assert profile.select is not None
        # One look for all that is read: the engine's first.
        space = AddressSpace(self._mm, look=False)
        pagemap = self._target.pagemap_or_none()
        source = Source(space, self._mm, pagemap, self._clock.check)
        return space, profile.select(source)

    def _measured(self, ended: Ended) -> Report:
        """Return the Report at the end, with the target's memory if that is asked."""
        after = remaining = None
        if self._limits.measure and ended not in ("exec", "exited"):
            if self._profile.reclaims:
                remaining = self._remaining()
            after = self._status()
        return self._report(ended, after, remaining)

    def _status(self) -> Status | None:
        try:
            return read_status(self._mm.identity)
        except ProcessLookupError:
            return None

    def _remaining(self) -> Remaining | None:
        try:
            pagemap = self._target.pagemap_or_none()
            if pagemap is None:
                return None
            resident = pagemap.resident(self._ranges)
            return Remaining(resident.total, pagemap.shared(resident).total)
        except StopAdvising:
            return None
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
            return None

    def _report(
        self,
        ended: Ended,
        after: Status | None = None,
        remaining: Remaining | None = None,
    ) -> Report:
        tally, engine = self._target.tally, self._engine
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


def run(mm: Mm, advice: int, ranges: Ranges | None, limits: Limits) -> Report:
    """Advise ranges of an mm, or the default selection; errors as Run.run()."""
    return Run(mm, advice, limits).run(ranges)
