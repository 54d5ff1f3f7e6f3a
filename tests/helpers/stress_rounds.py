"""Rounds of the stress tests: one look, advice or hold of a target that never rests."""

from __future__ import annotations

import contextlib
import errno
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from helpers.hold_targets import Cgroup
from helpers.needs import cgroup_mount
from helpers.stress_targets import STORM, StressTarget
from helpers.targets import MIB, PAGE
from helpers.waiting import until
from pmadvise import AddressSpace, Advice, Process, Ranges, Report

ADVICES = (Advice.COLD, Advice.PAGEOUT, Advice.WILLNEED, Advice.COLLAPSE)
_HOLE_OR_LOCKED = {errno.ENOMEM, errno.EINVAL, errno.EFAULT}
_OF_COLLAPSE = {errno.EBUSY, errno.EAGAIN}
_KILL_ONE_IN = 60


@dataclass
class Stress:
    """What a run of the stress tests is asked to do, and what it did."""

    seed: int
    seconds: float = 0.0
    """Of a long run; 0: the short one, which is bounded by rounds."""
    tally: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, more: int = 1) -> None:
        """Count something that was done, from any thread."""
        with self._lock:
            self.tally[what] += more

    def rng(self, *names: object) -> random.Random:
        """Return a generator that depends on the seed and on these names."""
        return random.Random(f"{self.seed} {names}")

    def share(self, part: float) -> float:
        """Return the seconds of a part of a long run."""
        return self.seconds * part


def freezer_of(name: str) -> Cgroup | None:
    """Make a cgroup of v2, None where that can't be."""
    mount = cgroup_mount(2)
    if mount is None:
        return None
    try:
        return Cgroup(mount / f"pmadvise-stress-{name}", "cgroup.freeze", "0", "1")
    except OSError:  # not root, or read-only
        return None


@contextlib.contextmanager
def in_freezer(target: StressTarget, name: str) -> Iterator[Cgroup | None]:
    """Put a target into a cgroup of its own, if that can be; end both behind."""
    cgroup = freezer_of(f"{target.pid}-{name}")
    try:
        if cgroup is not None:
            cgroup.add(target.pid)
        yield cgroup
    finally:
        target.close()
        if cgroup is not None:
            cgroup.close()


def check_account(report: Report, asked: Ranges | None, advice: Advice) -> None:
    """Check that a report accounts for every byte, and for each of them once."""
    skipped = Ranges((skip.address, skip.length) for skip in report.skipped)
    assert report.requested == report.advised + skipped.total + report.not_tried
    assert min(report.advised, report.not_tried) >= 0, report
    assert (report.ended == "complete") <= (report.not_tried == 0), report
    assert (report.advised > 0) <= (report.calls > 0), report
    allowed = _HOLE_OR_LOCKED | (_OF_COLLAPSE if advice == Advice.COLLAPSE else set())
    assert {skip.errno for skip in report.skipped} <= allowed, report
    if asked is not None:
        assert report.requested == asked.total
        assert (skipped - asked).total == 0, "skipped what was not asked for"
        assert skipped.merged().total == skipped.total, "skipped a byte twice"


class Rounds:
    """Rounds on one target, until it dies.

    Args:
        stress: The run.
        target: A target in one of its storms.
        rng: Decides all that is done.
        cgroup: The target's own, if it can be frozen.
    """

    def __init__(
        self,
        stress: Stress,
        target: StressTarget,
        rng: random.Random,
        cgroup: Cgroup | None,
    ) -> None:
        self._stress, self._target, self._rng = stress, target, rng
        self._methods = ["auto", "ptrace", "sigstop", *(["freezer"] if cgroup else [])]
        self._killed = False
        self._process = Process(target.pid)
        self._space: AddressSpace | None = None
        self._execs = target.execs
        self._whole = cgroup is not None

    def close(self) -> None:
        """Close the handle."""
        self._process.close()

    def one(self) -> bool:
        """Make a round; return whether the target goes on."""
        rng = self._rng
        killer = self._killer() if rng.randrange(_KILL_ONE_IN) == 0 else None
        try:
            rng.choices((self._look, self._advise, self._hold), (3, 5, 3))[0]()
        except ProcessLookupError:
            self._stress.count("error_ProcessLookupError")
            if not (self._killed or self._target.has_ended() or self._may_exec):
                raise
        finally:
            if killer is not None:
                killer.join()
        self._stress.count("rounds")
        assert self._target.wrong == 0, f"{self._target.wrong} pages are wrong"
        self._target.goes_on()
        return not self._target.has_ended()

    @property
    def _may_exec(self) -> bool:
        return self._target.mode == STORM

    def _killer(self) -> threading.Thread:
        """Kill the target within the round."""
        self._killed = True
        delay = self._rng.uniform(0, 0.004)

        def kill() -> None:
            time.sleep(delay)
            self._target.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        self._stress.count("kills")
        return thread

    def _maps(self) -> AddressSpace:
        space = self._space = self._process.maps()
        self._execs = self._target.execs  # later: at the least those that it has seen
        return space

    def _has_surely_execed(self) -> bool:
        """Return whether the target runs a program that maps() can't have seen."""
        return self._target.started > 1 + self._execs

    def _look(self) -> None:
        process, space = self._process, self._maps()
        ranges = Ranges((vma.start, vma.length) for vma in space)
        assert ranges.merged().total == ranges.total, "a VMA twice"
        assert list(ranges) == sorted(ranges), "VMAs out of order"
        assert (space.select() - ranges).total == 0
        looks: tuple[Callable[[], object], ...] = (
            process.resident,
            process.swapped,
            process.memory,
            process.status,
            space.changed,
            lambda: space.stale,
            lambda: process.alive,
            lambda: process.check(Advice.COLD),
        )
        for look in self._rng.sample(looks, 3):
            look()
        self._stress.count("snapshots")

    def _options(self) -> dict[str, object]:
        rng = self._rng
        options: dict[str, object] = {"measure": rng.random() < 0.3}
        if rng.random() < 0.3:
            options["budget"] = rng.randrange(4 * MIB)
        if rng.random() < 0.3:
            options["timeout"] = rng.choice((0, 0.0002, 0.002, 1))
        if rng.random() < 0.5:
            options["max_stall"] = rng.choice((None, 0.0001, 0.001, 1))
        if rng.random() < 0.2:
            cancel = threading.Event()
            left = iter(range(rng.randrange(4)))

            def on_progress(done: int, total: int) -> None:
                if next(left, None) is None:
                    cancel.set()

            options.update(cancel=cancel, on_progress=on_progress)
        return options

    def _some_ranges(self, space: AddressSpace) -> Ranges:
        """Return a part of the mappings, or addresses across them and their holes."""
        rng = self._rng
        found = space.select(
            anonymous=rng.choice((None, True)), writable=rng.choice((None, True))
        )
        pairs = rng.sample(list(found), min(len(found), rng.randrange(1, 40)))
        if rng.random() < 0.5:
            pairs = [
                (start, length + rng.randrange(8) * PAGE) for start, length in pairs
            ]
            return Ranges(pairs).merged()
        return Ranges(pairs)

    def _advise(self) -> None:
        advice = self._rng.choice(ADVICES)
        ranges: Ranges | None = None
        if self._space is None or self._rng.random() < 0.7:
            self._maps()
        assert self._space is not None
        if self._rng.random() < 0.7:
            ranges = self._some_ranges(self._space)
        options = self._options()
        late = self._has_surely_execed()
        report = self._report(advice, ranges, options)
        if late:
            assert (report.advised, report.calls) == (0, 0), report
            # "timeout" where it was 0, "exited" where it was killed meanwhile
            assert report.ended in ("exec", "exited", "timeout"), report
            self._stress.count("advised_after_exec_refused")

    def _report(
        self, advice: Advice, ranges: Ranges | None, options: dict[str, object]
    ) -> Report:
        if ranges is None:
            method = getattr(self._process, advice.name.lower())
            report: Report = method(**options)
        else:
            report = self._process.advise(ranges, advice, **options)  # type: ignore[arg-type]
        check_account(report, ranges, advice)
        self._stress.count("accounts_checked")
        self._stress.count(f"advised_{advice.name.lower()}", report.advised)
        self._stress.count(f"ended_{report.ended}")
        return report

    def _hold(self) -> None:
        method = self._rng.choice(self._methods)
        try:
            with self._process.hold(method, 10, self._whole) as hold:
                self._while_held()
        except TimeoutError:
            self._stress.count("error_TimeoutError")
            raise
        assert self._killed or hold.broken is None, hold.broken
        self._stress.count(f"holds_{hold.method}")

    def _while_held(self) -> None:
        """Check that nothing changes: steps, mappings, the account."""
        before = self._target.steps
        space = self._maps()
        advice = self._rng.choice(ADVICES)
        ranges = self._some_ranges(space)
        report = self._report(
            advice, ranges, {"max_stall": self._rng.choice((None, 1))}
        )
        changed = space.changed()
        ended = self._target.has_ended() or self._killed
        assert ended or self._target.steps == before, "it ran while it was held"
        assert ended or changed.total == 0, "it was changed while it was held"
        assert ended or report.ended == "complete", report


def run(stress: Stress, name: str, goes_on: Callable[[int], bool], mode: str) -> None:
    """Make rounds on one target after another.

    Args:
        stress: The run.
        name: Of this series, for the seed and the cgroup.
        goes_on: Whether there shall be another round, after so many.
        mode: Of the targets.
    """
    rng = stress.rng(name)
    rounds = 0
    while goes_on(rounds):
        target = StressTarget(mode, rng.randrange(1 << 62))
        with contextlib.ExitStack() as stack:
            cgroup = stack.enter_context(in_freezer(target, name))
            some = Rounds(stress, target, rng, cgroup)
            stack.callback(some.close)
            while goes_on(rounds):
                rounds += 1
                if not some.one():
                    break
            else:
                target.kill()
            until(target.has_ended, "the target is dead")
            assert (target.wrong, target.popen.wait()) == (0, -signal.SIGKILL)
            count_target(stress, target)


def count_target(stress: Stress, target: StressTarget) -> None:
    """Add up what a target did."""
    stress.count("targets")
    stress.count("target_pages_verified", target.verified)
    stress.count("target_forks", target.forks)
    stress.count("target_execs", target.started - 1)
    stress.count("target_changes", target.changes)
