"""What is done about a cgroup that is full: who is advised, and what came of it."""

from __future__ import annotations

import errno
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import policy
import telemetry
from account import Account
from cgroup import Cgroup, Fill, unprotected
from members import OWN
from options import Options
from policy import BACKOFF_MAX, Candidate
from telemetry import log
from tracking import Tracking
from whole import Wholes

from pmadvise import PAGE_SIZE, Advice, Ranges, Reclaimed, Report, advise_each, swap

# Seconds: the first rest after nothing could be done, or was freed, then twice as long
REST, REST_NOBODY, REST_FRUITLESS = 0.5, 4.0, 30.0  # each time, up to these
TICK = 0.1  # seconds between looks at the watermarks
SLICE = 1.0  # seconds at most in one process, so that the watchdog hears of us
FRUITLESS = "shared with other processes, or the cgroup may use no swap"


class SwapSpace(NamedTuple):
    """The swap of the host, in bytes."""

    total: int
    floor: int
    """What stays free."""
    why_full: str
    """Why no more can go there: "no_swap", "swap_floor" or none."""


class Relief:
    """Pages idle processes out, and reads back in who wakes.

    Args:
        options: Those of the daemon.
        is_stopping: Whether it is to end.
    """

    def __init__(self, options: Options, is_stopping: Callable[[], bool]) -> None:
        self.options = options
        self.tracking: Tracking | None = None
        """Of busy processes, with --idle-ranges."""
        self.wholes = Wholes(options, is_stopping)
        self._is_stopping = is_stopping
        self._allowance, self._latest = options.rate, time.monotonic()

    def look(self, one: Candidate, now: float, room: float) -> int:
        """Look at a process; if it wakes, read it back in as far as there is room."""
        if back := one.look(now):
            telemetry.REFAULTED.inc(back)
            # Of a busy one the rest is idle still, and what it needs is back.
            is_read = room > 0 and not one.is_partly_out and self.wholes.may_page_out
            report = self._read_back(one, room, now) if is_read else None
            read = report and report.advised
            log("woke", **one.named(), back=back, read=read, backoff=one.backoff)
        return back

    def _read_back(self, one: Candidate, room: float, now: float) -> Report | None:
        """Read a process back in, and map its pages where that is allowed."""
        return self._advise(one, Advice.WILLNEED, room, now, touch=one.may_touch)

    def relieve(self, group: Cgroup, now: float, fill: Fill, trigger: str) -> bool:
        """Page idle processes out; return whether that freed memory."""
        most = min(self.options.budget, self._allowed(now))
        need = fill.used - fill.limit * self.options.low / 100
        need = min(need, most) if need > 0 else most
        known = group.known.values()
        chosen, reasons = policy.choose(known, now, self.options.exclude)
        busy = self.tracking.ready(known, now) if self.tracking else []
        reasons["busy"] -= len(busy)
        account = Account(reasons, has_ranges=self.tracking is not None)
        refusing = self.wholes.refusing(group, now)
        for number, one in enumerate([*chosen, *busy, *refusing]):
            left = min(most - account.advised, need - account.freed)
            late = time.monotonic() - now > SLICE
            if number and (left < PAGE_SIZE or late or self._is_stopping()):
                break
            if why := self._why_later(most) or (space := self.swap_space()).why_full:
                reasons[why] += max(len(chosen) + len(busy) - number, 0)
                break
            if one.process.pid in account.relieved:
                continue
            # What comes first in its memory may be what is shared: look further.
            room = most - account.advised if one.is_fruitless else left
            room = min(room, unprotected(one.cgroup))
            if why := self._why_not_now(one, now, room):
                reasons[why] += 1
                continue
            if self._reclaim(group, one, min(room, left), space.floor, now, account):
                continue
            if number >= len(chosen) + len(busy):  # it has refused, and is counted
                continue
            if one.awake > now or not self.wholes.may_page_out:
                reasons["woke" if one.awake > now else "refused"] += 1
                continue
            tracking = self.tracking if number >= len(chosen) else None
            self._page_out(one, room, space.floor, now, account, tracking)
        group.is_full = group.is_full or trigger == "watermark"
        advised, freed = account.advised, account.freed
        fields: dict[str, Any] = {
            "trigger": trigger,
            "limit_of": fill.where or "host",
            **account.fields(),
        }
        fields["ended"] = "enough" if need - freed < PAGE_SIZE else "short"
        telemetry.ACTS.labels(group.directory, trigger, fields["ended"]).inc()
        has_freed = freed > advised // 10
        self._conclude(group, now, +reasons, fields, has_freed)
        return has_freed

    def _why_not_now(self, one: Candidate, now: float, room: float) -> str:
        """Return why a process stays, by what has changed since the last look."""
        if (one.swap and self.look(one, now, 0)) or one.awake > now:
            return "woke"
        if why := one.why_important(now, TICK):
            return why
        return "protected" if room < PAGE_SIZE else ""

    def _reclaim(
        self,
        group: Cgroup,
        one: Candidate,
        room: float,
        floor: int,
        now: float,
        account: Account,
    ) -> bool:
        """Relieve the cgroup of a process as a whole; return whether that was done."""
        members = self.wholes.members(group, one.cgroup, now)
        if not members or any(m.swap and self.look(m, now, 0) for m in members):
            return False
        done = self.wholes.reclaim(one.cgroup, room, floor, SLICE, now)
        if done is None:
            return False
        if self.options.dry_run:
            asked = out = int(min(room, sum(m.status.anonymous for m in members)))
        else:
            asked, out = self._note_whole(done)
        for member in members:
            try:
                member.swapped_out(member.process.status().swap, now)
            except ProcessLookupError:
                member.gone = True
            if self.options.dry_run or out <= asked // 10:
                member.leave_alone(now)
        account.add_whole(one.cgroup, members, asked, out)
        return True

    def _note_whole(self, done: Reclaimed) -> tuple[int, int]:
        """Note what a cgroup gave; return the bytes asked for, and those that left."""
        out = max(done.reclaimed, 0)
        is_tried = done.ended in ("complete", "short")
        asked = max(done.requested, out) if is_tried else out
        if done.after is not None:
            before, after = done.before, done.after
            if before.swap is None or after.swap is None:
                self._allowance -= max(before.anonymous - after.anonymous, 0)
            else:
                self._allowance -= max(after.swap - before.swap, 0)
        telemetry.ADVISED.labels("RECLAIM").inc(asked)
        telemetry.RECLAIMED.inc(out)
        telemetry.FREED.inc(out)
        return asked, out

    def _page_out(
        self,
        one: Candidate,
        room: float,
        floor: int,
        now: float,
        account: Account,
        tracking: Tracking | None,
    ) -> None:
        """Page a process out, or with `tracking`, as it is busy, what is idle of it."""
        ranges = tracking.idle(one, now) if tracking else None
        if ranges is not None and not ranges:
            account.reasons["busy"] += 1
            return
        report = self._advise(one, Advice.PAGEOUT, room, now, floor, ranges)
        if report is None:
            account.reasons["gone" if one.gone else "refused"] += 1
            return
        out = self._note(one, report, now)
        if tracking:
            one.is_partly_out = True
            tracking.advised(one, report)
        account.add(one, report, out, is_busy=tracking is not None)

    def _conclude(
        self,
        group: Cgroup,
        now: float,
        reasons: Counter[str],
        fields: dict[str, Any],
        has_freed: bool,
    ) -> None:
        """Tell what came of it, and decide when to try again."""
        tell = group.teller.tell
        if "advised" not in fields:
            # The next look knows more of the new ones; the rate allows more soon.
            is_soon = "rate" in reasons or reasons.keys() == {"new"}
            group.wait(now, REST, REST if is_soon else REST_NOBODY)
            if reasons.keys() != {"new"}:
                tell("nobody", {**reasons}, now, **fields, reasons=reasons)
        elif self.options.dry_run:
            group.wait(now, REST, REST_FRUITLESS)
            log("would_relieve", cgroup=group.directory, **fields)
        elif has_freed:
            group.rest = 0.0
            log("relieved", cgroup=group.directory, **fields)
        else:
            group.wait(now, REST, REST_FRUITLESS)
            fields["message"] = FRUITLESS
            tell("freed_nothing", FRUITLESS, now, 2 * BACKOFF_MAX, **fields)

    def _note(self, one: Candidate, report: Report, now: float) -> int:
        """Note what a PAGEOUT did; return the bytes that left memory."""
        if report.before is None or report.after is None:
            return 0  # it has gone
        if self.options.dry_run:
            one.leave_alone(now)
            return report.advised
        swapped = report.after.swap - report.before.swap
        out = max(report.before.rss - report.after.rss, swapped, 0)
        self._allowance -= max(swapped, 0)
        telemetry.FREED.inc(out)
        one.paged_out(report.after.swap, now)
        # It has no more, or what it has is shared.
        one.is_fruitless = out <= report.advised // 10
        if one.is_fruitless and (report.advised or report.ended == "complete"):
            one.leave_alone(now)
        return out

    def _allowed(self, now: float) -> float:
        """Return how much may go to swap now: on average no more than --rate."""
        if math.isinf(rate := self.options.rate):
            return math.inf
        self._allowance = min(self._allowance + rate * (now - self._latest), rate)
        self._latest = now
        return self._allowance

    def _why_later(self, most: float) -> str:
        """Return "rate" if that allows too little now: not a few pages at a time."""
        rate = self.options.rate
        return "rate" if most < min(rate / 2, self.options.budget) else ""

    def swap_space(self) -> SwapSpace:
        """Look at the swap, for the metrics too; raise OSError where it is hidden."""
        space = swap()
        floor = self.options.floor(space.total)
        telemetry.SWAP_FREE.set(space.free)
        telemetry.SWAP_FLOOR.set(floor)
        why = "swap_floor" if space.free - floor < PAGE_SIZE else ""
        return SwapSpace(space.total, floor, why if space.total else "no_swap")

    def _advise(
        self,
        one: Candidate,
        advice: Advice,
        budget: float,
        now: float,
        swap_floor: int = 0,
        ranges: Ranges | None = None,
        touch: bool = False,
    ) -> Report | None:
        """Advise one process; return None if it has gone or refuses.

        Raises:
            OSError: No descriptor is free, or no memory: that is no fault of its.
        """
        options = self.options
        [(_, outcome)] = advise_each(
            [one.process],
            advice,
            select=lambda _: ranges,
            budget=int(budget),
            swap_floor=swap_floor,
            stop=self._is_stopping,
            max_stall=options.max_stall,
            timeout=SLICE,
            measure=True,
            dry_run=options.dry_run,
            touch=touch,
        )
        try:
            if isinstance(outcome, OSError):
                raise outcome
            if outcome.ended == "exec":
                one.begin_anew()
            if outcome.ended == "refused":
                raise PermissionError(errno.EPERM, "the right was lost meanwhile")
        except ProcessLookupError:
            one.gone = True
            return None
        except OSError as error:
            if error.errno in OWN:
                raise
            if touch:  # it can be read ahead all the same
                one.may_touch = False
                return self._advise(one, advice, budget, now)
            name = telemetry.name_of(error)
            telemetry.REFUSALS.labels(name).inc()
            if one.refused_by(name, now):
                log("refused", **one.named(), errno=name, message=str(error))
            return None
        if not options.dry_run:
            telemetry.ADVISED.labels(advice.name).inc(outcome.advised)
            telemetry.CALL.observe(outcome.longest_call)
        return outcome
