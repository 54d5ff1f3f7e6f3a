"""Stops that several holds share: the first takes one, the last lets go.

A signal handler runs in the main thread, at any bytecode, and what it raises
(KeyboardInterrupt) leaves Python code in pieces there. So everything that stops a
target and lets it go runs in a thread of its own, where no signal handler does. Holders
only leave messages for it, each by one call into C, and wait.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import queue
import time
import weakref
from collections.abc import Callable, Hashable

from pmadvise._native.task import task_ended, task_own
from pmadvise.hold.deadline import Deadline
from pmadvise.hold.stop import (
    RETRIES,
    TICK,
    SpentThreadError,
    Stop,
    Taker,
    look,
    release,
)

_HAND_OVER = 1_000_000
"""Microseconds that a thread may take to end after it handed over."""


class Part:
    """The part that one holder has in a stop.

    Args:
        key: What is to be stopped.
        taker: How, if nobody else holds it.
        guard: A weak reference to an object that lives as long as the block: the part
            is over when it dies.
        deadline: Of time.monotonic(), in seconds.
    """

    __slots__ = (
        "answered",
        "begun",
        "broken",
        "deadline",
        "done",
        "error",
        "guard",
        "key",
        "left",
        "shared",
        "stop",
        "taker",
    )

    def __init__(
        self,
        key: Hashable,
        taker: Taker,
        guard: weakref.ref[object],
        deadline: float,
    ) -> None:
        self.key = key
        self.taker = taker
        self.guard = guard
        self.deadline = deadline
        self.left = False
        self.begun = False
        self.stop: Stop | None = None
        self.error: BaseException | None = None
        self.broken: str | None = None
        self.shared: SharedStop | None = None
        self.answered = _locked()
        self.done = _locked()

    def is_wanted(self) -> bool:
        """Return whether the holder neither left nor vanished."""
        return not self.left and self.guard() is not None

    def watch(self, wake: Callable[[object], object]) -> None:
        """Call `wake` when the guard dies."""
        # The guard must not get a name here: a traceback would keep it alive.
        self.guard = weakref.ref(self.guard(), wake)


def _locked() -> _thread.LockType:
    lock = _allocate_lock()
    lock.acquire()
    return lock


def _allocate_lock() -> _thread.LockType:
    try:
        return _thread.allocate_lock()
    except RuntimeError as error:  # Python's word for want of memory here
        raise MemoryError(*error.args) from None


def _unlock(lock: _thread.LockType) -> None:
    if lock.locked():
        lock.release()


stops: dict[Hashable, SharedStop] = {}
"""All that is held in this process."""


class SharedStop:
    """The stop that the holders of one key have together, and its thread."""

    def __init__(self, key: Hashable) -> None:
        self._key = key
        self._claim = _allocate_lock()
        self._parts: dict[Part, None] = {}
        self._leaving: dict[Part, None] = {}
        self._stop: Stop | None = None
        self._taker: Taker | None = None
        self._message: object = None
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        """Parts that want to join, or to leave; anything else wakes the thread."""
        self.tid = 0
        """The thread's ID; 0 before it has begun."""
        self.ended = False
        """Whether the thread serves nobody any more."""

    def ensure_started(self) -> None:
        """Start the thread if it has not begun; one that is not needed ends at once.

        Raises:
            OSError: There can't be another thread, or it could not know its ID.
        """
        if self.tid == 0:
            task_own()
            try:
                _thread.start_new_thread(self._run, ())
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, str(error)) from None

    def abandon(self) -> None:
        """End it, unless a thread serves it: none will from here on."""
        if self._claim.acquire(blocking=False):
            self._end()

    def reap(self) -> None:
        """Help a stop that the kernel keeps waiting; called by those who wait."""
        taker = self._taker
        if taker is not None:
            taker.reap()

    def _run(self) -> None:
        if self._claim.acquire(blocking=False):
            self._work()

    def _work(self, predecessor: int = 0) -> None:
        """Serve until nobody is left; after the end of a thread that did so before."""
        goes_on = False
        try:
            if predecessor:
                task_ended(predecessor, _HAND_OVER)
            self.tid = task_own()
            goes_on = self._serve_all()
        finally:
            if not goes_on:
                self._end()

    def _end(self) -> None:
        if stops.get(self._key) is self:
            del stops[self._key]
        self.ended = True
        with contextlib.suppress(MemoryError):  # those who wait look at `ended` too
            self._finish()

    def _serve_all(self) -> bool:
        """Return whether another thread goes on with it."""
        for _ in RETRIES:
            try:
                while self._serve():
                    pass
            except SpentThreadError:
                with contextlib.suppress(RuntimeError):  # no thread: perhaps later
                    _thread.start_new_thread(self._work, (self.tid,))
                    return True
                time.sleep(TICK)
            except Exception:  # no memory: nothing that is left to do is forgotten
                time.sleep(TICK)
            else:
                break
        return False

    def _serve(self) -> bool:
        """Do what is to be done; return whether there may be more."""
        if self._message is None:
            with contextlib.suppress(queue.Empty):
                self._message = self.inbox.get(timeout=TICK)
        self._settle()
        if isinstance(self._message, Part):
            self._answer(self._message)
        self._message = None
        if not self._parts and self._stop is not None:
            self._let_go()
        elif self._stop is not None and self._stop.is_over():
            # Its parent learns of its death when the thread ends.
            self._let_go()
            return False
        if not self._parts and self.inbox.empty():
            return False
        self._finish()
        return True

    def _settle(self) -> None:
        """Look at the stop for those who left; let go if these were the last."""
        for part in list(self._parts):
            if not part.is_wanted():
                part.broken = self._broken_for(part)
                self._leaving[part] = None
                del self._parts[part]
        if not self._parts and self._stop is not None:
            self._let_go()

    def _answer(self, part: Part) -> None:
        if part in self._parts or part in self._leaving:
            return
        if not part.is_wanted():
            self._leaving[part] = None
            return
        part.begun = True
        try:
            if self._stop is not None and look(self._stop):
                self._let_go()
            if self._stop is None:
                self._taker = part.taker
                self._stop = part.taker.take(Deadline(part.deadline, part.is_wanted))
            part.stop = self._stop
            self._parts[part] = None
        except SpentThreadError:
            raise
        except BaseException as error:
            part.error = error.with_traceback(None)
        _unlock(part.answered)

    def _let_go(self) -> None:
        if self._stop is not None:
            release(self._stop)
            self._stop = None

    def _finish(self) -> None:
        """Let those return who left."""
        for part in list(self._leaving):
            _unlock(part.done)
            del self._leaving[part]

    def _broken_for(self, part: Part) -> str | None:
        if part.stop is not self._stop or self._stop is None:
            return "it ran, and another hold stopped it again"
        return look(self._stop)
