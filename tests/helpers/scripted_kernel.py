"""A kernel and a target of a test's own, given to the engine; needs no kernel feature.

It answers as Linux 6.18 does: whole elements, partial results, holes, EFAULT.
"""

from __future__ import annotations

import bisect
import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from helpers import maps_model
from pmadvise import IOV_MAX, MAX_RW_COUNT, PAGE_SIZE, Advice, Ranges, Report
from pmadvise._advise.engine import Engine
from pmadvise._advise.kernel import Kernel
from pmadvise._advise.limits import Clock, Limits
from pmadvise._advise.profiles import Profile, profile_of
from pmadvise._handle.mm import MmEnd
from pmadvise._native.maps import VmaArray
from pmadvise._native.mm import Burst, Tally
from pmadvise._native.ranges import RangeArray
from pmadvise.advice import known
from pmadvise.report import Ended

USER_END = 1 << 40
HUGE = 512 * PAGE_SIZE


class Area(NamedTuple):
    """A VMA, in bytes."""

    start: int
    end: int
    errno: int = 0
    """The answer to every advice for it."""


def pages(count: int) -> int:
    """Return the bytes of so many pages."""
    return count * PAGE_SIZE


def splits(elements: Iterable[tuple[int, int]], page: tuple[int, int]) -> bool:
    """Return whether an element, (address, length), has a part of a page alone."""
    start, size = page
    return any(
        0 < min(address + length, start + size) - max(address, start) < size
        for address, length in elements
    )


def vmas_of(areas: Iterable[Area]) -> VmaArray:
    """Return areas as maps has them, parsed."""
    lines = "".join(f"{a.start:x}-{a.end:x} rw-p 0 0:0 0 \n" for a in areas)
    return maps_model.vmas_of(lines.encode())


class ScriptedTally(Tally):
    """Counts calls as the C code does."""

    __slots__ = ()

    def count(self, result: int, nanoseconds: int) -> None:
        """Count a call."""
        tally = self.cdata
        tally.calls += 1
        tally.spent += nanoseconds
        tally.nanoseconds, tally.result = nanoseconds, result
        if result > 0:
            tally.advised += result
            tally.locked += nanoseconds


def do_nothing() -> None:
    """Stands for a hook that a test does not need."""


@dataclass
class ScriptedKernel(Kernel):
    """A Kernel of no process; a test sets what it is to answer."""

    areas: list[Area] = field(default_factory=list)
    memory: Ranges = field(default_factory=Ranges)
    """The pages in memory."""
    huge_pages: Ranges = field(default_factory=Ranges)
    """The huge pages in memory, not merged: one range each."""
    probe_answer: int = 0
    """The answer to an empty vector."""
    returns_nothing: bool = False
    """Whether each call returns 0."""
    seconds: float = 0.0
    """Seconds that each call takes."""
    ends: Iterator[MmEnd | None] = field(default_factory=lambda: iter(()))
    """The answers of ended(), which is asked before each call too; then None."""
    before_call: Callable[[], object] = do_nothing
    after_call: Callable[[], object] = do_nothing
    in_pause: Callable[[], object] = do_nothing
    """Called in each pause that is made here; returns whether a signal comes."""
    before_look: Callable[[Ranges], object] = lambda ranges: None
    """Called before the mappings of ranges are looked at."""

    huge_page_size: int = HUGE
    tally: Tally = field(default_factory=ScriptedTally)
    advised: list[tuple[int, int]] = field(default_factory=list)
    """The parts of VMAs that were advised."""
    calls: list[list[tuple[int, int]]] = field(default_factory=list)
    """The vectors of the calls."""
    pauses: list[float] = field(default_factory=list)
    """The seconds of each pause that was made here."""
    now: int = 0
    """Nanoseconds, of calls and of pauses."""

    def touched(self, start: int, end: int) -> list[Area]:
        """Return the areas, which are sorted, that have an address in [start, end)."""
        first = bisect.bisect_right(self.areas, start, key=lambda area: area.end)
        behind = bisect.bisect_left(self.areas, end, key=lambda area: area.start)
        return self.areas[first:behind]

    def ended(self) -> MmEnd | None:
        """Return the next of `ends`."""
        return next(self.ends, None)

    def advise(
        self, vector: RangeArray, burst: Burst
    ) -> tuple[MmEnd | None, int, float]:
        """Advise ranges if the target is still the same, and those that follow."""
        assert isinstance(self.tally, ScriptedTally)
        limits, begin = burst.cdata, self.now
        for more in range(limits.more, -1, -1):
            if end := self.ended():
                return end, self.tally.result, self.seconds
            result = self.call(list(Ranges._of_array(vector)))
            nanoseconds = round(1e9 * self.seconds)
            self.now += nanoseconds
            self.tally.count(result, nanoseconds)
            self.after_call()
            if not (
                len(vector) == 1
                and more
                and result == vector.total() > 0
                and limits.least <= nanoseconds <= limits.most
                and self.now - begin < limits.room
                and self.had_its_turn(limits)
            ):
                break
            vector.cdata[0].address += vector.cdata[0].length
        return None, result, self.seconds

    def had_its_turn(self, limits: Any) -> bool:
        """Let the target have its turn if it is due; return whether none is left."""
        if self.tally.cdata.locked < limits.turn:
            return True
        if not limits.pause or self.in_pause():
            return False
        self.now += limits.pause
        self.pauses.append(limits.pause * 1e-9)
        self.tally.turn()
        return True

    def call(self, pairs: list[tuple[int, int]]) -> int:
        """Return the result of a call for a vector."""
        self.before_call()
        self.calls.append(pairs)
        return 0 if self.returns_nothing else self._process_madvise(pairs)

    def _process_madvise(self, vector: list[tuple[int, int]]) -> int:
        assert len(vector) <= IOV_MAX
        assert sum(length for _, length in vector) <= MAX_RW_COUNT
        if any(address >= USER_END for address, _ in vector):
            return -errno.EFAULT
        done = 0
        for address, length in vector:
            if error := self._advise_element(address, length):
                return done or -error
            done += length
        return done

    def _advise_element(self, address: int, length: int) -> int:
        at, end, hole = address, address + -(-length // PAGE_SIZE) * PAGE_SIZE, False
        for area in self.touched(address, end):
            if area.start > at:
                hole = True
            at = max(at, area.start)
            if area.errno:
                return area.errno
            self.advised.append((at, min(area.end, end) - at))
            at = min(area.end, end)
        return errno.ENOMEM if hole or at < end else 0

    def probe(self) -> int:
        """Return the answer to an empty vector."""
        return self.probe_answer

    def explain(self, number: int) -> OSError:
        """Return an exception."""
        return OSError(number, "the scripted kernel refuses")

    def is_user_address(self, address: int) -> bool:
        """Return whether an address is of user space."""
        return address < USER_END

    def vmas_of(self, ranges: Ranges) -> VmaArray:
        """Return the areas that ranges touch."""
        self.before_look(ranges)
        if not (merged := ranges.merged()):
            return vmas_of([])
        return vmas_of(self.touched(merged[0][0], sum(merged[-1])))

    def resident(self, ranges: Ranges) -> Ranges:
        """Return the parts of ranges that are in memory."""
        return ranges & self.memory

    def next_huge_page(self, start: int) -> int:
        """Return where the next huge page begins."""
        return min((at for at, _ in self.huge_pages if at >= start), default=USER_END)

    def split_pages(self) -> list[int]:
        """Return the huge pages of which an element has a part alone."""
        elements = {one for vector in self.calls for one in vector}
        return [page[0] for page in self.huge_pages if splits(elements, page)]


class TickingClock:
    """A clock that goes on by a step each time it is looked at."""

    def __init__(self, step: float) -> None:
        self._step, self._now = step, 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        self._now += self._step
        return self._now


def stopped_clock() -> float:
    """Return a time that never changes."""
    return 0.0


def engine_of(
    kernel: ScriptedKernel,
    ranges: Iterable[tuple[int, int]],
    advice: int = Advice.COLD,
    *,
    profile: Profile | None = None,
    monotonic: Callable[[], float] = stopped_clock,
    **limits: Any,
) -> Engine:
    """Return an Engine for the scripted kernel."""
    checked = Limits(**limits)
    return Engine(
        kernel,
        Ranges(ranges),
        profile or profile_of(advice),
        checked,
        Clock(checked, monotonic),
    )


def run(engine: Engine, snapshot: VmaArray | None = None) -> Ended:
    """Run an Engine to its end, without its pauses."""
    steps = engine.steps(snapshot)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            ended: Ended = stop.value
            return ended


def advise(
    kernel: ScriptedKernel,
    ranges: Iterable[tuple[int, int]],
    advice: int = Advice.COLD,
    *,
    snapshot: VmaArray | None = None,
    **options: Any,
) -> Report:
    """Run an Engine on the scripted kernel, and return its account."""
    engine = engine_of(kernel, ranges, advice, **options)
    ended = run(engine, snapshot)
    return report_of(kernel, engine, ended, advice)


def report_of(
    kernel: ScriptedKernel, engine: Engine, ended: Ended, advice: int = Advice.COLD
) -> Report:
    """Return the account of an Engine so far."""
    return Report(
        advice=known(advice),
        requested=engine.account.requested,
        advised=kernel.tally.advised,
        skipped=tuple(engine.account.skipped),
        calls=kernel.tally.calls,
        elapsed=0.0,
        longest_call=0.0,
        ended=ended,
    )
