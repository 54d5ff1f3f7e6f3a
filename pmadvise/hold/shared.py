"""Stops that several holders share: made for the first, released after the last.

A signal handler runs in the main thread, at any bytecode, and an exception that it
raises (KeyboardInterrupt) leaves Python code in pieces there. So everything that stops
a target and lets it run is done by a thread of the stop's own, where no signal handler
runs. Holders only put messages into its inbox, each by one call into C, and wait.
"""

from __future__ import annotations

import _queue
import _thread
import contextlib
import errno
import weakref
from collections.abc import Callable

from pmadvise._native.base import original
from pmadvise._native.task import task_ended, task_own
from pmadvise.hold.stop import (
    RETRIES,
    TICK,
    Deadline,
    SpentThreadError,
    Stop,
    StopFactory,
    release,
    sleep,
    why_broken,
)
from pmadvise.hold.target import ProcessKey

thread = original(_thread)
"""Threads and locks of the system, even where greenlets have taken their names."""
_HAND_OVER = 1_000_000
"""Microseconds that a thread may take to end after it handed over."""


class Holder:
    """One holder of a shared stop: its request, and the answers of the stop's thread.

    Args:
        key: Of the process to be stopped.
        factory: Stops the process, unless another holder has done so.
        guard: A weak reference to an object that lives as long as the block: the holder
            has left when it dies.
        deadline: Of time.monotonic(), in seconds.

    Attributes:
        shared: The stop that the holder shares.
        left: Whether the holder has left, by ``leave()``.
        begun: Whether the thread has begun to answer.
        answered: A lock, released once `stop` or `error` is set.
        stop: The stop that the holder takes part in.
        error: Why it takes part in none.
        done: A lock, released once the thread knows that the holder has left, and the
            process runs if that was the last one.
        broken: Why the process may have run before; known when `done` is released.
    """

    __slots__ = (
        "answered",
        "begun",
        "broken",
        "deadline",
        "done",
        "error",
        "factory",
        "guard",
        "key",
        "left",
        "shared",
        "stop",
    )

    def __init__(
        self,
        key: ProcessKey,
        factory: StopFactory,
        guard: weakref.ref[object],
        deadline: float,
    ) -> None:
        self.key = key
        self.factory = factory
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
        """Return whether the holder has neither left nor vanished."""
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
        lock: _thread.LockType = thread.allocate_lock()
    except RuntimeError as error:  # raised here for want of memory
        raise MemoryError(*error.args) from None
    return lock


def _unlock(lock: _thread.LockType) -> None:
    if lock.locked():
        lock.release()


stops: dict[ProcessKey, SharedStop] = {}
"""The stops of all processes that this process holds."""


class SharedStop:
    """The stop that all holders of one process share, and its thread.

    Args:
        key: Of the process.

    Attributes:
        inbox: Holders that join or leave; any other message wakes the thread.
        tid: The thread's ID; 0 before it has begun.
        ended: Whether no thread will serve it any more.
    """

    def __init__(self, key: ProcessKey) -> None:
        self._key = key
        self._claim = _allocate_lock()
        self._holders: dict[Holder, None] = {}
        self._leavers: dict[Holder, None] = {}
        self._stop: Stop | None = None
        self._factory: StopFactory | None = None
        self._message: object = None
        self.inbox: _queue.SimpleQueue[object] = _queue.SimpleQueue()
        self.tid = 0
        self.ended = False

    def ensure_started(self) -> None:
        """Start the thread if it has not begun; a superfluous one ends at once.

        Raises:
            OSError: There can't be another thread, or it could not know its ID.
        """
        if self.tid == 0:
            task_own()
            try:
                thread.start_new_thread(self._run, ())
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, str(error)) from None

    def abandon(self) -> None:
        """End it, unless a thread serves it already: no thread will from here on."""
        if self._claim.acquire(blocking=False):
            self._end()

    def reap(self) -> None:
        """Unblock the thread if it waits in the kernel; called by waiting holders."""
        factory = self._factory
        if factory is not None:
            factory.reap()

    def _run(self) -> None:
        if self._claim.acquire(blocking=False):
            self._serve()

    def _serve(self, predecessor: int = 0) -> None:
        """Serve until no holder is left, after the end of the thread `predecessor`."""
        handed_over = False
        try:
            if predecessor:
                task_ended(predecessor, _HAND_OVER)
            self.tid = task_own()
            handed_over = self._serve_with_retries()
        finally:
            if not handed_over:
                self._end()

    def _end(self) -> None:
        if stops.get(self._key) is self:
            del stops[self._key]
        self.ended = True
        with contextlib.suppress(MemoryError):  # those who wait check `ended` too
            self._confirm_leavers()

    def _serve_with_retries(self) -> bool:
        """Return whether another thread was started to go on with it."""
        for _ in RETRIES:
            try:
                while self._serve_message():
                    pass
            except SpentThreadError:
                with contextlib.suppress(RuntimeError):  # no thread: perhaps later
                    thread.start_new_thread(self._serve, (self.tid,))
                    return True
                sleep(TICK)
            except Exception:  # no memory: the state tells what is left to do
                sleep(TICK)
            else:
                break
        return False

    def _serve_message(self) -> bool:
        """Serve one message, or a tick without one; return whether to go on."""
        if self._message is None:
            with contextlib.suppress(_queue.Empty):
                self._message = self.inbox.get(timeout=TICK)
        self._remove_leavers()
        if isinstance(self._message, Holder):
            self._answer(self._message)
        self._message = None
        if not self._holders and self._stop is not None:
            self._release()
        elif self._stop is not None and self._stop.is_over():
            # Its parent learns of its death when the thread ends.
            self._release()
            return False
        if not self._holders and self.inbox.empty():
            return False
        self._confirm_leavers()
        return True

    def _remove_leavers(self) -> None:
        """Set `broken` of the holders who left; release the stop if none remains."""
        for holder in list(self._holders):
            if not holder.is_wanted():
                holder.broken = self._why_broken_for(holder)
                self._leavers[holder] = None
                del self._holders[holder]
        if not self._holders and self._stop is not None:
            self._release()

    def _answer(self, holder: Holder) -> None:
        """Let a holder take part in the stop, which is made if there is none."""
        if holder in self._holders or holder in self._leavers:
            return
        if not holder.is_wanted():
            self._leavers[holder] = None
            return
        holder.begun = True
        try:
            if self._stop is not None and why_broken(self._stop):
                self._release()
            if self._stop is None:
                self._factory = holder.factory
                deadline = Deadline(holder.deadline, holder.is_wanted)
                self._stop = holder.factory.make_stop(deadline)
            holder.stop = self._stop
            self._holders[holder] = None
        except SpentThreadError:
            raise
        except BaseException as error:
            holder.error = error.with_traceback(None)
        _unlock(holder.answered)

    def _release(self) -> None:
        if self._stop is not None:
            release(self._stop)
            self._stop = None

    def _confirm_leavers(self) -> None:
        """Let the holders return who wait for having left."""
        for holder in list(self._leavers):
            _unlock(holder.done)
            del self._leavers[holder]

    def _why_broken_for(self, holder: Holder) -> str | None:
        if holder.stop is not self._stop or self._stop is None:
            return "it ran, and another hold stopped it again"
        return why_broken(self._stop)
