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
import functools
import os
import queue
import time
import weakref
from collections.abc import Callable, Hashable
from typing import Protocol

from pmadvise._native.task import task_ended
from pmadvise.hold.target import Deadline

_TICK = 0.01
"""Seconds between looks whether a target died or a holder vanished."""
_STALLED = 0.005
"""Seconds without an answer after which an execve(2) may wait for our reaping."""
_GRACE = 0.05
"""Seconds after its deadline that the thread may take to answer."""
_LEAVING = 2.0
"""Seconds to wait for a target to be let go; one that hangs in execve(2) takes long."""
_RETRIES = (None,) * 1000
"""For what fails without memory: a tick lies between two of them."""


class Stop(Protocol):
    """A target, or a cgroup, that is stopped from ``stop()`` until ``release()``.

    Creating and stopping are separate, so that an object that failed half-way can be
    released.
    """

    @property
    def method(self) -> str:
        """The name of the way it is stopped."""

    def stop(self, deadline: Deadline) -> None:
        """Stop the target; after an exception it is still to be released."""

    def broken(self) -> str | None:
        """Return why the target may have run since, None if it did not."""

    def is_over(self) -> bool:
        """Return whether the target died, so that there is nothing to hold."""

    def reap(self) -> None:
        """Help a stop() that the kernel keeps waiting; called in another thread."""

    def release(self) -> None:
        """Let the target go; may be called again, to finish what failed."""


class Taker(Protocol):
    """A way to stop the target, that a holder brings with it."""

    def take(self, deadline: Deadline) -> Stop:
        """Return the target's stop; raise, with nothing stopped."""

    def reap(self) -> None:
        """Help a take() that the kernel keeps waiting; called in another thread."""


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


_shared: dict[Hashable, SharedStop] = {}


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
            OSError: There can't be another thread.
        """
        if self.tid == 0:
            try:
                _thread.start_new_thread(self._run, ())
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, str(error)) from None

    def reap(self) -> None:
        """Help a stop that the kernel keeps waiting; called by those who wait."""
        taker = self._taker
        if taker is not None:
            taker.reap()

    def _run(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        try:
            self.tid = _thread.get_native_id()
            self._serve_all()
        finally:
            if _shared.get(self._key) is self:
                del _shared[self._key]
            self.ended = True
            with contextlib.suppress(MemoryError):  # those who wait look at `ended` too
                self._finish()

    def _serve_all(self) -> None:
        for _ in _RETRIES:
            try:
                while self._serve():
                    pass
            except Exception:  # no memory: nothing that is left to do is forgotten
                time.sleep(_TICK)
            else:
                return

    def _serve(self) -> bool:
        """Do what is to be done; return whether there may be more."""
        if self._message is None:
            with contextlib.suppress(queue.Empty):
                self._message = self.inbox.get(timeout=_TICK)
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
            if self._stop is not None and _look(self._stop):
                self._let_go()
            if self._stop is None:
                self._taker = part.taker
                self._stop = part.taker.take(Deadline(part.deadline, part.is_wanted))
            part.stop = self._stop
            self._parts[part] = None
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
        return _look(self._stop)


def held() -> tuple[Hashable, ...]:
    """Return the keys of all that is held in this process."""
    return tuple(_shared)


def join(part: Part) -> Stop:
    """Return the stop of a part's key, that of others or a new one.

    One that was broken from outside is taken anew. Whatever this raises, the caller
    calls ``leave()``.

    Raises:
        TimeoutError: The target was not stopped in time, or others were busy with it.
    """
    _forget_in_children()
    while True:
        part.shared = shared = _place_for(part)
        part.watch(shared.inbox.put)
        shared.ensure_started()
        if _wait_for_answer(part, shared):
            break
    if part.error is not None:
        error, part.error = part.error, None
        try:
            raise error
        finally:
            del error
    assert part.stop is not None
    return part.stop


def _place_for(part: Part) -> SharedStop:
    """Put the part into the inbox of its key's stop, one that exists or a new one."""
    part.shared = mine = SharedStop(part.key)
    mine.inbox.put(part)
    shared = _shared.setdefault(part.key, mine)
    if shared.ended and _shared.get(part.key) is shared:  # it had no memory to do so
        _shared[part.key] = shared = mine
    if shared is not mine:
        part.shared = shared
        shared.inbox.put(part)
    return shared


def _wait_for_answer(part: Part, shared: SharedStop) -> bool:
    """Return whether the part was answered; not so by a thread that has ended."""
    while not part.answered.acquire(timeout=_STALLED):
        if shared.ended:
            return part.answered.acquire(blocking=False)
        shared.reap()
        if time.monotonic() > part.deadline + _GRACE:
            raise TimeoutError(
                errno.ETIMEDOUT,
                "it was not stopped in time: the kernel keeps the stop waiting"
                if part.begun
                else "another hold of it is being taken",
            )
    return True


def leave(part: Part) -> None:
    """Give up a part, and wait until that is done; may be called again.

    Sets ``part.broken``.
    """
    part.left = True  # from here on its thread lets go, whatever happens to this one
    shared = part.shared
    if shared is None:
        return
    shared.inbox.put(part)
    try:
        shared.ensure_started()
    except OSError:
        if shared.tid == 0 and _shared.get(part.key) is shared:
            del _shared[part.key]
        return
    until = time.monotonic() + _LEAVING
    while not part.done.acquire(timeout=_STALLED) and not shared.ended:
        shared.reap()
        if time.monotonic() > until:
            return
    if shared.ended:
        # What the kernel ties to the thread ends with it.
        task_ended(shared.tid, 1_000_000)


def release(stop: Stop) -> None:
    """Let a target go, again and again if something fails: want of memory passes."""
    for _ in _RETRIES:
        try:
            return stop.release()
        except Exception:
            time.sleep(_TICK)
    return None


def _look(stop: Stop) -> str | None:
    try:
        return stop.broken()
    except ProcessLookupError:
        return None  # it died
    except OSError as error:
        return f"it can't be looked at: {error}"


@functools.cache
def _forget_in_children() -> None:
    """Forget the parent's holds in every child forked from now on."""
    os.register_at_fork(after_in_child=_shared.clear)
