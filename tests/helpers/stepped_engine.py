"""A stepped engine on a kernel that answers anything, while the target changes."""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Generator
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
)

from helpers.scripted_kernel import (
    HUGE,
    Area,
    ScriptedKernel,
    engine_of,
    pages,
    report_of,
    vmas_of,
)
from pmadvise import PAGE_SIZE, Advice, Ranges
from pmadvise._advise.engine import Engine
from pmadvise._handle.mm import MmEnd
from pmadvise._native.base import check
from pmadvise._native.maps import VmaArray
from pmadvise.report import Ended

PAGES = 3 * HUGE // PAGE_SIZE
ERRNOS = (
    *(errno.EINVAL, errno.ENOMEM, errno.EFAULT, errno.EAGAIN, errno.EBUSY),
    *(errno.EPERM, errno.EACCES, errno.ESRCH, errno.EBADF, errno.ENOSYS, errno.EIO),
)
ENDS: tuple[MmEnd, ...] = ("exec", "exited", "refused")

at_page = st.integers(0, PAGES - 1)
some_answers = st.lists(
    st.integers(0, 5) | st.sampled_from([-number for number in ERRNOS]), max_size=12
)
some_areas = st.lists(st.tuples(at_page, st.integers(1, 64)), max_size=6)


class AnyKernel(ScriptedKernel):
    """Answers as it is told, and notes each byte that it took."""

    def __init__(self) -> None:
        super().__init__(in_pause=self.turn)
        self.rate = math.inf
        """Bytes a second."""
        self.answers: list[int] = []
        """Elements that the next calls take, or -errno; then all."""
        self.end: MmEnd | None = None
        self.took: list[tuple[int, int]] = []
        self.locked = 0.0
        """Seconds of calls since the latest pause, made here or yielded."""
        self.most_locked = math.inf
        self.counted = 0
        """Bytes in memory of what it took; of what it took twice, twice."""
        self.time = 0.0
        self.looks = 0

    def ended(self) -> MmEnd | None:
        return self.end

    def call(self, pairs: list[tuple[int, int]]) -> int:
        assert self.locked < self.most_locked, "the target had no turn"
        answer = self.answers.pop(0) if self.answers else len(pairs)
        taken = pairs[: max(answer, 0)]
        self.took += taken
        self.counted += sum((Ranges([one]) & self.memory).total for one in taken)
        result = sum(n for _, n in taken) if answer >= 0 else answer
        self.calls.append(pairs)
        self.seconds = 1e-5 + max(result, 0) / self.rate
        self.locked += self.seconds if result > 0 else 0
        return result

    def turn(self) -> None:
        self.locked = 0.0

    def vmas_of(self, ranges: Ranges) -> VmaArray:
        self.looks += 1
        if self.end is not None:
            check(-errno.ESRCH, "a question")  # the package raises it
        return vmas_of(self.areas)

    def resident(self, ranges: Ranges) -> Ranges:
        if self.end is not None:
            check(-errno.ESRCH, "a question")  # the package raises it
        return ranges & self.memory


@dataclass
class Seen:
    """What the caller was told, in order: bytes advised and bytes skipped."""

    kernel: AnyKernel
    engine: Engine | None = None
    covered: list[tuple[int, int]] = field(default_factory=list)
    progress: int = 0
    _took: int = 0
    _skipped: int = 0

    def __call__(self, done: int, total: int) -> None:
        """Stand for on_progress."""
        assert self.engine is not None
        assert self.progress <= done <= total
        self.progress = done
        self.covered += self.kernel.took[self._took :]
        self._took = len(self.kernel.took)
        skips = self.engine.account.skipped
        n_bytes = sum(skip.length for skip in skips)
        if new := n_bytes - self._skipped:
            last = skips[-1]
            self.covered.append((last.address + last.length - new, new))
            self._skipped = n_bytes


def flat(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join what follows directly, in the order given."""
    joined: list[tuple[int, int]] = []
    for address, length in pairs:
        if joined and sum(joined[-1]) == address:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        elif length:
            joined.append((address, length))
    return joined


def first_bytes(pairs: list[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """Return the first bytes of pairs."""
    found = []
    for address, length in pairs:
        found.append((address, min(length, n)))
        n -= found[-1][1]
    return found


class SteppedEngine(RuleBasedStateMachine):
    """The engine is stepped, and between its steps anything happens."""

    def start(  # noqa: PLR0913, PLR0917 - all that an advise() depends on
        self,
        asked: list[tuple[int, int]],
        areas: list[tuple[int, int]],
        memory: list[tuple[int, int]],
        advice: Advice,
        budget: int | None,
        timeout: float | None,
        max_stall: float | None,
        many: bool,
        sleeps: bool,
        rate: float,
        remembered: list[tuple[int, int]] | None,
        answers: list[int],
    ) -> None:
        """Begin; `many` lets calls follow each other, as fast as the rate says."""
        self.kernel = AnyKernel()
        self.kernel.answers, self.kernel.rate = answers, rate
        self.map(areas)
        self.load(memory)
        self.asked = [(pages(start), pages(n)) for start, n in asked]
        self.advice, self.budget, self.timeout = advice, budget, timeout
        self.cancel = threading.Event()
        if max_stall is not None:
            self.kernel.most_locked = max_stall / 4
        self.seen = Seen(self.kernel)
        self.engine = engine_of(
            self.kernel,
            self.asked,
            advice,
            monotonic=lambda: self.kernel.time,
            budget=budget,
            timeout=timeout,
            max_stall=max_stall,
            cancel=self.cancel,
            on_progress=None if many else self.seen,
        )
        # Told after each step, so that calls may follow each other within one.
        self.engine.account._on_progress = self.seen
        self.seen.engine = self.engine
        snapshot = None
        if remembered is not None:
            snapshot = vmas_of(self.areas_of(remembered))
        self.steps: Generator[float, None, Ended] = self.engine.steps(
            snapshot, sleeps=sleeps
        )
        self.over = False
        self.n_steps = 0

    def areas_of(self, pairs: list[tuple[int, int]]) -> list[Area]:
        merged = Ranges((pages(start), pages(n)) for start, n in pairs).merged()
        return [Area(start, start + n) for start, n in merged]

    @rule(areas=some_areas)
    def map(self, areas: list[tuple[int, int]]) -> None:
        self.kernel.areas = self.areas_of(areas)

    @rule(memory=some_areas)
    def load(self, memory: list[tuple[int, int]]) -> None:
        self.kernel.memory = Ranges(
            (pages(start), pages(n)) for start, n in memory
        ).merged()

    @rule(answers=some_answers)
    def answer(self, answers: list[int]) -> None:
        self.kernel.answers = answers

    @rule(number=st.sampled_from([0, *(-number for number in ERRNOS)]))
    def answer_probes(self, number: int) -> None:
        self.kernel.probe_answer = number

    @rule(seconds=st.floats(0, 0.3))
    def wait(self, seconds: float) -> None:
        self.kernel.time += seconds

    @precondition(lambda self: not self.over)
    @rule(end=st.sampled_from(ENDS))
    def end_target(self, end: MmEnd) -> None:
        calls = len(self.kernel.calls)
        self.kernel.end = end
        ended = self.finish()
        assert ended in (end, "timeout", "cancelled", "budget")
        assert len(self.kernel.calls) == calls, "a call behind the end"

    @precondition(lambda self: not self.over)
    @rule()
    def cancel_it(self) -> None:
        calls, left = len(self.kernel.calls), not self.engine.account.is_complete
        self.cancel.set()
        ended = self.finish()
        assert not left or ended in ("cancelled", "exec", "exited", "refused")
        assert len(self.kernel.calls) == calls, "a call behind the end"

    @precondition(lambda self: not self.over)
    @rule(n=st.integers(1, 5))
    def step(self, n: int) -> None:
        for _ in range(n):
            if self.over or self.step_once() is not None:
                break

    @precondition(lambda self: not self.over)
    @rule()
    def run_on(self) -> None:
        self.finish()

    def finish(self) -> Ended | None:
        while not self.over:
            if (ended := self.step_once()) is not None:
                return ended
        return None

    def step_once(self) -> Ended | None:
        """Make a step, and return how it ended if it did."""
        late = self.timeout is not None and self.kernel.time >= self.timeout
        calls, left = len(self.kernel.calls), not self.engine.account.is_complete
        ended: Ended | None = None
        self.n_steps += 1
        assert self.n_steps < 8 * sum(n // PAGE_SIZE for _, n in self.asked) + 500
        try:
            if next(self.steps) > 0:
                self.kernel.turn()
        except StopIteration as stop:
            self.over, ended = True, stop.value
        except OSError as error:
            self.over = True
            if error.errno != -self.kernel.probe_answer:
                raise  # what the kernel did not refuse
            ended = "refused"
        if late and left:
            assert len(self.kernel.calls) == calls, "a call behind the timeout"
        self.check()
        return ended

    def check(self) -> None:
        report = report_of(self.kernel, self.engine, "complete", self.advice)
        assert report.not_tried >= 0
        done = report.requested - report.not_tried
        assert done == self.seen.progress
        assert flat(self.seen.covered) == flat(first_bytes(self.asked, done)), "order"
        if self.budget is not None:
            counted = self.kernel.counted
            if self.advice == Advice.WILLNEED:
                counted = report.advised - counted
            assert counted <= self.budget

    def teardown(self) -> None:
        if hasattr(self, "steps"):
            self.kernel.answers.clear()
            ended = self.finish()
            report = report_of(self.kernel, self.engine, ended or "complete")
            assert ended != "complete" or report.not_tried == 0
