"""Tracking of targets: which of their memory is idle, and for how long."""

from __future__ import annotations

import contextlib
import errno
import resource
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pmadvise.command.output import Output
from pmadvise.command.targets import TargetEntry, TargetProcess, Targets
from pmadvise.command.text import count

if TYPE_CHECKING:
    import threading

    from pmadvise.command.progress import TimeBar

_STEP = 0.1
"""Seconds after which Ctrl-C is answered, at the latest."""
_PER_TARGET = 4
"""Descriptors of a tracked process at most."""
_OTHERS = 32
"""Descriptors that are left for the work itself."""


class NoBar:
    """A bar of the time for those who do not look at it."""

    def show(self, done: float, total: float | None) -> None:
        """So many seconds are done, of so many if that is known."""

    def end(self) -> None:
        """The time is over."""


class Ages(NamedTuple):
    """The memory of a process by age: at a look."""

    pairs: list[tuple[float, int]]
    """As Tracker.ages() returns them: seconds, bytes; the youngest first."""
    unknown: int
    source: str
    grain: int

    def to_dict(self) -> dict[str, object]:
        """Return it as `show --ages --json` prints it."""
        return {
            "ages": [{"seconds": age, "bytes": size} for age, size in self.pairs],
            "unknown": self.unknown,
            "source": self.source,
            "grain": self.grain,
        }


class Tracking:
    """Targets that are open, each with its Tracker; a context manager.

    A target that can't be tracked has its `error`, and the others are tracked.

    Args:
        targets: To track, but for those with an error.
        stop: Set if the tracking is to end early.
        bar: Shows the time.
    """

    def __init__(
        self,
        targets: Iterable[TargetEntry],
        stop: threading.Event,
        bar: NoBar | TimeBar,
    ) -> None:
        self._targets = [target for target in targets if target.error is None]
        self._stop, self._bar = stop, bar
        self._open: dict[int, TargetProcess] = {}
        self._begun = 0.0

    def __enter__(self) -> Tracking:
        """Begin to track."""
        try:
            limit = _allow_files(len(self._targets) * _PER_TARGET + _OTHERS)
            for target in self._targets:
                if self._stop.is_set():
                    break
                self._bar.show(0, None)
                try:
                    self._open[target.pid] = _tracked(target, limit)
                except OSError as error:
                    target.error = error.with_traceback(None)
            self._begun = time.monotonic()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close all that is open."""
        self.close()

    def end_bar(self) -> None:
        """Leave the bar as it is: the time is over."""
        self._bar.end()

    def close(self) -> None:
        """Close the trackers and the processes."""
        self._bar.end()
        with contextlib.ExitStack() as stack:
            for process in self._open.values():
                stack.callback(process.close)
            self._open.clear()

    def wait(self, until: float, total: float) -> bool:
        """Wait for a time, or for the end of every process.

        Args:
            until: Seconds since the tracking began.
            total: Those at which the bar is full.

        Returns:
            False if it was interrupted, or if every process has ended.
        """
        while not self._stop.is_set() and self._is_alive():
            self._bar.show(min(self.elapsed, total), total)
            if not self._step(until):
                return True
        return False

    def pause(self, seconds: float) -> bool:
        """Wait, and then look; return False if it was interrupted."""
        until = self.elapsed + seconds
        while not self._stop.is_set():
            if not self._step(until):
                self.look()
                return True
        return False

    def watch(self, ages: Sequence[float]) -> None:
        """Look so often that memory of these ages can be told apart at the end.

        Args:
            ages: Seconds, the longest first.
        """
        total = ages[0]
        looks = [(total, 0.0)]
        for age in ages[1:]:
            if not self.wait(total - age, total):
                break
            self.look()
            looks.append((age, self.elapsed))
        self.wait(max(age + end for age, end in looks), total)
        self.look()
        self._bar.end()

    def _step(self, until: float) -> bool:
        """Sleep for a step; return False if the time is over."""
        left = until - self.elapsed
        if left > 0:
            time.sleep(min(left, _STEP))
        return left > 0

    def _is_alive(self) -> bool:
        """Return whether any process has not ended."""
        return any(process.alive for process in self._open.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the tracking began, of all targets."""
        return time.monotonic() - self._begun

    def look(self) -> None:
        """Look at each target; one that has exec'd is tracked anew.

        One that can't be looked at has its `error`, and is tracked no more.
        """
        for target in self._targets:
            process = self._open.get(target.pid)
            if process is None:
                continue
            try:
                _look(process)
            except OSError as error:
                target.error = error.with_traceback(None)
                self._open.pop(target.pid).close()

    def ages(self, target: TargetEntry) -> Ages | None:
        """Return the ages of its memory at the latest look; None: not tracked."""
        process = self._open.get(target.pid)
        if process is None or process.tracker is None:
            return None
        tracker = process.tracker
        return Ages(tracker.ages(), tracker.unknown, tracker.source, tracker.grain)

    def take(self, target: TargetEntry) -> TargetProcess:
        """Return the open process of a tracked target: it is the caller's to close."""
        return self._open.pop(target.pid)


def _tracked(target: TargetEntry, limit: int) -> TargetProcess:
    """Open a target, and track it."""
    try:
        process = target.open()
        try:
            # The kernel gives the lowest number that is free.
            if process.fileno() > limit - _OTHERS:
                raise OSError(errno.EMFILE, "")
            process.track()
        except BaseException:
            process.close()
            raise
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise _no_file(limit) from None
        raise
    return process


def _look(process: TargetProcess) -> None:
    assert process.tracker is not None
    try:
        process.tracker.look()
    except ProcessLookupError:
        if not process.alive:
            raise
        process.maps()  # it has exec'd
        process.track()


def _no_file(limit: int) -> OSError:
    text = (
        "is not tracked: too few file descriptors, as each process takes up to "
        f"{_PER_TARGET} and the limit is {limit:,}: raise it by ulimit -n"
    )
    return OSError(errno.EMFILE, text)


def _allow_files(number: int) -> int:
    """Raise the limit of descriptors to a number, if possible; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft == resource.RLIM_INFINITY:
        return number
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft


def track(
    targets: Targets, stop: threading.Event, output: Output, bar: bool = True
) -> Tracking:
    """Return a Tracking of targets, with a bar where somebody may look at it."""
    if not bar or not output.shows_progress:
        return Tracking(targets, stop, NoBar())
    from pmadvise.command.progress import TimeBar  # noqa: PLC0415 - slow, for a terminal

    text = f"watching {count(len(targets), 'process', 'processes')}"
    return Tracking(targets, stop, TimeBar(output, text))
