"""The advising loop: any ranges in, a true account out."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypedDict

from pmadvise import _sys
from pmadvise._sys import IOV_MAX, MAX_RW_COUNT, PAGE_SIZE
from pmadvise.advice import Advice, advice_name, known
from pmadvise.calls import explain, short_reason
from pmadvise.maps import AddressSpace, Mm
from pmadvise.ranges import Ranges
from pmadvise.residency import Memory

# WILLNEED reads no more of a file for each range than the readahead of its disk:
# mm/readahead.c, force_page_cache_ra().
_READAHEAD = 128 << 10

# Errnos that may speak of the whole call rather than of one range.
_OF_THE_CALL = frozenset(
    {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ESRCH}
)


class Cancel(Protocol):
    """What says that the work is to end: a threading.Event."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Skip:
    """A range that could not be advised."""

    address: int
    length: int
    """Bytes."""
    errno: int
    """What the kernel said; ENOMEM where nothing is mapped."""
    reason: str

    def __repr__(self) -> str:
        name = errno.errorcode.get(self.errno, self.errno)
        return f"Skip({self.address:#x}, {self.length:#x}, {name}: {self.reason})"


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an advise(): requested == advised + skipped + not tried."""

    advice: Advice | int
    requested: int
    """Bytes asked for."""
    advised: int
    """Bytes that the kernel took. Not bytes reclaimed: see `before` and `after`."""
    skipped: tuple[Skip, ...]
    """What could not be advised, in the order asked."""
    calls: int
    """System calls process_madvise(2) that had ranges."""
    elapsed: float
    """Seconds."""
    longest_call: float
    """Seconds that one call took at the most, with the target's mmap lock."""
    ended: str
    """"complete", or why the rest was not tried: "budget", "timeout", "cancelled" (also
    by the exception that carries this report), "exec", "exited"."""
    before: Memory | None = None
    """The target's memory before, with measure=True."""
    after: Memory | None = None
    """And after; None too where it has exec'd or exited."""

    @property
    def not_tried(self) -> int:
        """Bytes that were neither advised nor skipped."""
        return self.requested - self.advised - sum(s.length for s in self.skipped)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as json.dumps() takes it; advice by its name."""
        return {**asdict(self), "advice": advice_name(self.advice)}


class Options(TypedDict, total=False):
    """The keywords of Process.advise(), for those that pass them on."""

    max_stall: float | None
    budget: int | None
    timeout: float | None
    cancel: Cancel | None
    on_progress: Callable[[int, int], object] | None
    measure: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """When an advise() stops, and whom it tells; Process.advise() says what each is."""

    max_stall: float | None = 0.05
    budget: int | None = None
    timeout: float | None = None
    cancel: Cancel | None = None
    on_progress: Callable[[int, int], object] | None = None

    def __post_init__(self) -> None:
        if self.max_stall is not None and not self.max_stall > 0:
            raise ValueError(
                f"max_stall {self.max_stall!r} is not more than 0 seconds: pass None "
                "for calls as large as the kernel takes"
            )
        for name, value in (("budget", self.budget), ("timeout", self.timeout)):
            if value is not None and not value >= 0:
                raise ValueError(f"{name} {value!r} is negative")


class Pacer:
    """Size calls so that none holds the target's mmap lock longer than `max_stall`.

    What worked best of much that was tried: calls that end on 512 KiB borders (odd ends
    cost a TLB shootdown a page), sized for an eighth of max_stall by the rate of the
    last one, and a pause before the lock is handed on by force (readers win it from a
    waiting writer for up to 4 ms). A sparse area is fast, and must not size the call
    that meets a dense one: the rate counts up to what dense memory allows.
    """

    _PART = 8
    _BORDER = 512 << 10
    _PAUSE = 20e-6
    _DENSE = 512 << 20
    _DENSE_COLD = 8 << 30

    def __init__(self, advice: int, max_stall: float | None, longest: int) -> None:
        self._target = None if max_stall is None else max_stall / self._PART
        self._longest = longest
        self._dense = self._DENSE_COLD if advice == Advice.COLD else self._DENSE
        self._rate = float(self._DENSE)
        self._locked = 0.0

    def size(self) -> tuple[int, int]:
        """Return how many bytes to ask for next, and the border where to end."""
        most = MAX_RW_COUNT
        if self._target is not None:
            most = min(most, int(self._rate * self._target))
            if most < self._BORDER <= self._rate * self._target * self._PART / 2:
                most = self._BORDER
        border = min(self._BORDER, 1 << max(most, PAGE_SIZE).bit_length() - 1)
        if self._longest < MAX_RW_COUNT:
            border = self._longest
        return max(most - most % border, border), border

    def took(self, n_bytes: int, seconds: float) -> None:
        """Learn from a call, and give the target its turn when it is due."""
        if self._target is None:
            return
        self._rate = min(n_bytes / max(seconds, 1e-9), self._dense)
        self._locked += seconds
        if self._locked >= 2 * self._target:
            self._locked = 0.0
            time.sleep(self._PAUSE)


class _Ended(Exception):
    """Ends the loop early; its argument is Report.ended."""


class Engine:
    """One advise(): the loop, and the account so far.

    Args:
        pidfd: Of the target.
        mm: The address space that the ranges are of.
        ranges: Page-aligned, in the order to be advised.
        advice: One that the kernel has said it takes.
        limits: When to stop.
        resident: Returns which pages are in memory; for the budget.
        longest: The most bytes an element of the vector: a huge page for COLLAPSE.
        measure: Returns what the target has in memory, for Report.before and after.
    """

    def __init__(
        self,
        pidfd: int,
        mm: Mm,
        ranges: Ranges,
        advice: int,
        limits: Limits,
        resident: Callable[[Ranges], Ranges],
        longest: int = MAX_RW_COUNT,
        measure: Callable[[], Memory | None] | None = None,
    ) -> None:
        self._pidfd, self._mm = pidfd, mm
        self._ranges, self._advice = ranges, advice
        self._limits, self._resident = limits, resident
        if advice == Advice.WILLNEED:
            longest = max(_READAHEAD, PAGE_SIZE)
        self._longest = longest
        self._pacer = Pacer(advice, limits.max_stall, longest)
        self._requested = ranges.total
        self._advised = self._skipped_bytes = self._used = self._calls = 0
        self._skipped: list[Skip] = []
        self._longest_call = 0.0
        self._asked, self._asked_at = 0, 0  # a range, and the bytes before it
        self._measure = measure
        self._before = measure() if measure else None
        self._begin = time.monotonic()

    def run(self, space: AddressSpace | None = None) -> Report:
        """Advise.

        Args:
            space: The snapshot that the ranges were selected from.

        Raises:
            OSError: What the kernel says to the whole call, after all.
            BaseException: What `on_progress` or a signal handler raises. Whatever it
                is, `.report` of it is the Report so far.
        """
        try:
            try:
                self._check()
                if space is None:
                    self._advise(self._ranges)
                else:
                    self._work(space._vmas, space._n, self._ranges, fresh=False)
                self._check_target()
            except _Ended as early:
                return self._report(early.args[0], self._measure)
            return self._report("complete", self._measure)
        except BaseException as error:
            error.report = self._report("cancelled")  # type: ignore[attr-defined]
            raise

    def _report(
        self, ended: str, measure: Callable[[], Memory | None] | None = None
    ) -> Report:
        """Return the account so far."""
        elapsed = time.monotonic() - self._begin
        return Report(
            advice=known(self._advice),
            requested=self._requested,
            advised=self._advised,
            skipped=tuple(self._skipped),
            calls=self._calls,
            elapsed=elapsed,
            longest_call=self._longest_call,
            ended=ended,
            before=self._before,
            after=measure() if measure else None,
        )

    def _check(self) -> None:
        """End the loop where it is to end."""
        limits = self._limits
        if self._advised + self._skipped_bytes < self._requested:
            if limits.cancel is not None and limits.cancel.is_set():
                raise _Ended("cancelled")
            elapsed = time.monotonic() - self._begin
            if limits.timeout is not None and elapsed >= limits.timeout:
                raise _Ended("timeout")
            if limits.budget is not None and self._used >= limits.budget:
                raise _Ended("budget")
        self._check_target()

    def _check_target(self) -> None:
        fate = self._mm.fate()
        if fate is not None:
            raise _Ended(fate)

    def _advise(self, ranges: Ranges) -> None:
        """Advise ranges, cut at the borders of the VMAs that are there now."""
        self._work(*self._vmas_of(ranges), ranges, fresh=True)

    def _vmas_of(self, ranges: Ranges) -> tuple[_sys.VmaArray, int]:
        merged = ranges.merged()
        try:
            return _sys.procmap_vmas(self._mm.fileno(), merged._array, merged._n)
        except ProcessLookupError:
            self._check_target()
            raise
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
        space = AddressSpace(self._mm)  # before Linux 6.11
        return space._vmas, space._n

    def _work(
        self, vmas: _sys.VmaArray, n_vmas: int, ranges: Ranges, fresh: bool
    ) -> None:
        """Advise what lies in VMAs; skip what does not, if they are `fresh`."""
        pieces, n, mapped = _sys.vmas_cut(vmas, n_vmas, ranges._array, ranges._n)
        start = 0
        while start < n:
            hole = mapped.find(0, start)
            stop = n if hole < 0 else hole
            if start < stop:
                self._work_mapped(_sys.Batches(pieces, start, stop))
            if stop < n:
                self._hole(*_sys.ranges_get(pieces, stop), fresh)
            start = stop + 1

    def _hole(self, address: int, length: int, fresh: bool) -> None:
        """Account for what is not mapped."""
        if not fresh:
            self._advise(Ranges([(address, length)]))
            return
        # an element of no bytes advises nothing: is the address of user space at all?
        said = _sys.process_madvise(
            self._pidfd, Ranges([(address, 0)])._array, 1, self._advice
        )
        outside = said == -errno.EFAULT
        self._skip(address, length, errno.EFAULT if outside else errno.ENOMEM)

    def _work_mapped(self, batches: _sys.Batches) -> None:
        """Advise pieces that lie in one VMA each."""
        room = IOV_MAX
        while True:
            self._check()
            position = batches.position()
            most, border = self._pacer.size()
            n = batches.take(most, min(most, self._longest), border, room)
            if n == 0:
                return
            n, used, is_cut = self._fit_budget(batches.vector, n)
            if n == 0:
                raise _Ended("budget")
            vector = Ranges._adopt(batches.vector, n)
            asked = vector.total
            if is_cut:
                batches.back_to(position, asked)
            result = self._call(vector)
            if result > 0:
                self._advised += result
                if used:
                    self._used += _sum_of_whole(vector, used, result)
                self._progress()
            if result == asked:
                if is_cut:
                    raise _Ended("budget")
                room = IOV_MAX
            elif result > 0:  # the next one alone will say why
                batches.back_to(position, result)
                room = 1
            elif n > 1:
                # EFAULT is of any of them, all else of the first
                batches.back_to(position, 0)
                room = n // 2 if result == -errno.EFAULT else 1
            else:
                self._refused(*vector[0], -result)
                room = IOV_MAX

    def _call(self, vector: Ranges) -> int:
        begin = time.monotonic()
        result = _sys.process_madvise(
            self._pidfd, vector._array, vector._n, self._advice
        )
        seconds = time.monotonic() - begin
        self._calls += 1
        self._longest_call = max(self._longest_call, seconds)
        if result > 0:
            self._pacer.took(result, seconds)
        return result

    def _refused(self, address: int, length: int, number: int) -> None:
        """Account for what the kernel did not take, asked alone."""
        self._check_target()
        if number in _OF_THE_CALL:
            said = _sys.probe(self._pidfd, self._advice)
            if said < 0:
                self._check_target()
                raise explain(self._pidfd, self._advice, -said)
        refused = Ranges([(address, length)])
        vmas, n_vmas = self._vmas_of(refused)
        _, pieces, mapped = _sys.vmas_cut(vmas, n_vmas, refused._array, 1)
        if pieces == 1 and mapped[0]:
            self._skip(address, length, number)
        else:  # the target has mapped something else there since it was looked at
            self._work(vmas, n_vmas, refused, fresh=True)

    def _skip(self, address: int, length: int, number: int) -> None:
        """Add to `skipped`, to its last entry if that is of the same range asked."""
        before = self._advised + self._skipped_bytes
        while self._asked_at + self._ranges[self._asked][1] <= before:
            self._asked_at += self._ranges[self._asked][1]
            self._asked += 1
        last = self._skipped[-1] if self._skipped else None
        if (
            last is not None
            and last.address + last.length == address
            and last.errno == number
            and before > self._asked_at
        ):
            self._skipped.pop()
            address, length = last.address, last.length + length
            self._skipped_bytes -= last.length
        reason = short_reason(self._advice, number)
        self._skipped.append(Skip(address, length, number, reason))
        self._skipped_bytes += length
        self._progress()

    def _progress(self) -> None:
        if self._limits.on_progress is not None:
            done = self._advised + self._skipped_bytes
            self._limits.on_progress(done, self._requested)

    def _fit_budget(
        self, array: _sys.RangeArray, n: int
    ) -> tuple[int, list[int], bool]:
        """Shorten a vector to what the budget allows.

        Returns:
            Its number of ranges, the budgeted bytes of each, and whether it was cut.
        """
        if self._limits.budget is None:
            return n, [], False
        vector = Ranges._adopt(array, n)
        counted = self._resident(vector)
        if self._advice == Advice.WILLNEED:
            counted = vector - counted
        used = _sys.ranges_overlap(array, n, counted._array, counted._n)
        left = self._limits.budget - self._used
        for index, bytes_used in enumerate(used):
            if bytes_used > left:
                address, _ = vector[index]
                left -= left % PAGE_SIZE
                for start, length in counted & vector[index : index + 1]:
                    if length > left:
                        end = start + left
                        break
                    left -= length
                _sys.set_length(array, index, end - address)
                return index + (end > address), [*used[:index], 0], True
            left -= bytes_used
        return n, used, False


def _sum_of_whole(vector: Ranges, values: list[int], n_bytes: int) -> int:
    """Add up the values of the ranges that make up the first `n_bytes`."""
    total = 0
    for (_, length), value in zip(vector, values, strict=False):
        if n_bytes < length:
            break
        n_bytes -= length
        total += value
    return total
