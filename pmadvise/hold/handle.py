"""The hold that callers enter and leave: hold(), Hold, and their part of a shared stop.

This runs in the threads of callers, where a signal handler may raise at any bytecode:
the thread of the shared stop does what is left undone then.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
import weakref
from collections.abc import Callable
from types import TracebackType

from pmadvise._arguments import seconds
from pmadvise._handle.identity import Identity
from pmadvise._native.task import task_ended
from pmadvise._origin import own
from pmadvise.hold.fds import forget_in_children
from pmadvise.hold.methods import MethodChoice, check_method
from pmadvise.hold.shared import Holder, SharedStop, stops
from pmadvise.hold.stop import Stop

_STALLED = 0.005
"""Seconds without an answer after which an execve(2) may wait for our reaping."""
_GRACE = 0.25
"""Seconds after its deadline that the thread may take to answer."""
_LEAVING = 2.0
"""Seconds to wait until a target runs; after a hanging execve(2) it takes long."""


def hold(
    identity: Identity,
    method: str = "auto",
    timeout: float = 1.0,
    whole_cgroup: bool = False,
) -> Hold:
    """Return a context manager; the process does not run while its block does.

    It runs on when the block ends, when it raises (even if memory is short, or if a
    signal handler raises at any instant), and when the caller is killed, even with
    SIGKILL and after it forked (unless Python does not know of the fork). Exception:
    a frozen process stays frozen if the caller's whole cgroup is killed at once. Holds
    of the same process within one caller are shared: a later one joins the first,
    whatever its method, and the process resumes when the last one ends.

    - "ptrace": PTRACE_SEIZE and PTRACE_INTERRUPT on every thread. Its parent notices
      nothing; only SIGKILL ends it. The caller gets SIGCHLD, and while the process is
      being stopped a wait elsewhere in the caller, for any child or, if the process is
      the caller's own child, for that one, may return the stop.
    - "freezer": its cgroup is frozen: cgroup.freeze of v2, freezer.state of v1 (there
      SIGKILL waits for the end of the hold). A small /bin/sh child watches over the
      caller meanwhile. A move to another cgroup ends the hold.
    - "sigstop": SIGSTOP, and SIGCONT afterwards unless it was stopped before. Its
      parent is notified, so a shell takes it for a stopped job; a SIGCONT from anybody
      ends the hold.

    A blocked system call of the target may end with EINTR under each of them
    (signal(7) lists which).

    Two processes that hold each other stop each other for good. That is refused where
    it can be detected (the target traces the caller); two copies of a daemon that may
    hold each other are not detected in time: run one instance (a lock file), or exclude
    each from the targets of the other.

    Args:
        identity: Of the process. Lent until the block begins: it may be closed then.
        method: "ptrace", "freezer", "sigstop", or "auto": the first of these that
            works.
        timeout: Seconds, 0 or more, for the process to be stopped, all methods of
            "auto" together: each but the last may take half of the time left.
        whole_cgroup: Allow "freezer" to freeze other processes with it.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: There is no such method, or the timeout is negative or NaN.
    """
    check_method("method", method)
    limit = seconds("timeout", timeout)
    if not isinstance(whole_cgroup, bool):
        raise TypeError(f"whole_cgroup {whole_cgroup!r} is not a bool")
    return Hold(MethodChoice(identity, method, whole_cgroup), limit)


_ExitFunction = Callable[
    [type[BaseException] | None, BaseException | None, TracebackType | None], None
]


class _Exit:
    """``Hold.__exit__``: a callable that is looked up before the block is entered.

    A ``with`` statement keeps the callable for as long as it runs and drops it in the
    end, even if an exception of a signal handler strikes at the first instruction of
    ``__exit__`` or at the last one of ``__enter__``. So each look-up returns an object
    of its own, and the hold ends when that object dies, called or not.

    Args:
        leave: Function that ends a hold.
        watch: Function that gets a hold and the object that was looked up.
    """

    def __init__(
        self, leave: Callable[..., None], watch: Callable[[Hold, object], None]
    ) -> None:
        self._leave = leave
        self._watch = watch

    def __get__(
        self, held: Hold | None, owner: type[Hold] | None = None
    ) -> _ExitFunction:
        if held is None:
            return self._leave  # contextlib.ExitStack calls it with the hold
        exit_function = functools.partial(self._leave, held)
        self._watch(held, exit_function)
        return exit_function


class Hold:
    """A process held still: the context manager that ``hold()`` returns.

    It can be entered once. Entering raises PermissionError when the method, or none
    for "auto", can hold the process here and now, with the reason; TimeoutError when
    it can't be stopped in time, and it was let go; ProcessLookupError when it has
    ended or is a kernel thread; ValueError when its handle is closed. Leaving does not
    raise, even if the process died.

    In a ``with`` statement an exception at any instant ends the hold, even before
    ``__exit__`` has begun. Entered by hand or by contextlib.ExitStack, it ends at the
    latest when nothing refers to it any more; a traceback that is kept may do so.

    Attributes:
        method: The method that holds it; before entering the one that was asked for.
        refused: Why the methods tried before, or the one asked for when an earlier
            hold was joined, do not: {method: reason}.
    """

    __slots__ = (
        "__weakref__",
        "_choice",
        "_guard",
        "_holder",
        "_owner_pid",
        "_timeout",
        "method",
        "refused",
    )

    def __init__(self, choice: MethodChoice, timeout: float) -> None:
        self.method = choice.method
        self.refused = choice.refused
        self._choice = choice
        self._timeout = timeout
        self._owner_pid = 0  # of the process that entered it; 0: not yet entered
        self._holder: Holder | None = None
        self._guard: weakref.ref[object] = weakref.ref(self)

    @property
    def broken(self) -> str | None:
        """Known on leaving: None if the process did not run while the block did.

        Else what ended the hold from outside (SIGCONT, a move to another cgroup, a
        thaw), or put it at risk (the freezer's watchdog was killed).
        """
        return self._holder.broken if self._holder is not None else None

    def __enter__(self) -> Hold:
        """Stop the process; the class documents what this raises."""
        if self._owner_pid:
            raise RuntimeError("a Hold can be entered once: call hold() for a new one")
        self._owner_pid = os.getpid()
        try:
            self._enter(time.monotonic() + self._timeout)
            # Nothing is called from here on: no signal handler may raise in between.
            return self
        except BaseException:
            self._leave()
            raise

    def _enter(self, deadline: float) -> None:
        asked = self.method
        key = self._choice.identify()
        if self._guard() is None:
            self._guard = weakref.ref(self)
        # The Holder does not refer to this Hold, whose death may be its only leaving.
        self._holder = Holder(key, self._choice, self._guard, deadline)
        self.method = join(self._holder).method
        if asked not in ("auto", self.method):
            self.refused[asked] = f"joined an earlier hold, by {self.method}"

    def _leave(self, *_: object) -> None:
        """End the hold; may be called again, and before it is entered."""
        holder = self._holder
        if holder is None or self._owner_pid != os.getpid():
            return
        # Without memory the stop's thread does it alone, as holder.left is set first.
        with contextlib.suppress(MemoryError):
            leave(holder)

    def _watch(self, exit_function: object) -> None:
        """End the hold when `exit_function` dies; without effect once it is entered."""
        if not self._owner_pid:
            self._guard = weakref.ref(exit_function)

    __exit__ = _Exit(_leave, _watch)


def join(holder: Holder) -> Stop:
    """Return the stop of a holder's process: that of other holders, or a new one.

    One that was broken from outside is made anew. Whatever this raises, the caller
    calls ``leave()``.

    Raises:
        TimeoutError: The target was not stopped in time, or others were busy with it.
    """
    forget_in_children(stops.clear)
    while True:
        holder.shared = shared = _find_shared(holder)
        holder.watch(shared.inbox.put)
        shared.ensure_started()
        if _wait_for_answer(holder, shared):
            break
    if holder.error is not None:
        error, holder.error = holder.error, None
        try:
            raise error
        finally:
            del error
    assert holder.stop is not None
    return holder.stop


def _find_shared(holder: Holder) -> SharedStop:
    """Put the holder into the inbox of its key's stop, one that exists or a new one."""
    holder.shared = mine = SharedStop(holder.key)
    mine.inbox.put(holder)
    shared = stops.setdefault(holder.key, mine)
    if shared.ended and stops.get(holder.key) is shared:  # no memory to remove it
        stops[holder.key] = shared = mine
    if shared is not mine:
        holder.shared = shared
        shared.inbox.put(holder)
    return shared


def _wait_for_answer(holder: Holder, shared: SharedStop) -> bool:
    """Return whether the holder was answered; False if the thread ended before."""
    while not holder.answered.acquire(timeout=_STALLED):
        if shared.ended:
            return holder.answered.acquire(blocking=False)
        shared.reap()
        if time.monotonic() > holder.deadline + _GRACE:
            pid, _ = holder.key
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"process {pid} was not stopped in time: "
                + (
                    "a thread of it is in an uninterruptible wait, which blocks the "
                    "system call that would stop it; try again"
                    if holder.begun
                    else "an earlier hold of it, to be joined, is still stopping it; "
                    "allow a longer timeout"
                ),
            )
    return True


def leave(holder: Holder) -> None:
    """End a holder's part in a stop, and wait for that; may be called again.

    Sets ``holder.broken``.
    """
    holder.left = True  # from here on the stop's thread goes on, even if this one fails
    shared = holder.shared
    if shared is None:
        return
    try:
        shared.inbox.put(holder)
        shared.ensure_started()
    except own(OSError, MemoryError):
        shared.abandon()
        return
    until = time.monotonic() + _LEAVING
    while not holder.done.acquire(timeout=_STALLED) and not shared.ended:
        shared.reap()
        if time.monotonic() > until:
            shared.abandon()  # no thread, if it had no memory to begin
            return
    if shared.ended:
        # What the kernel ties to the thread ends with it.
        task_ended(shared.tid, 1_000_000)
