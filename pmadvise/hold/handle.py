"""hold(): the context manager that callers hold."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
import weakref
from collections.abc import Callable
from types import TracebackType

from pmadvise._handle.identity import Identity
from pmadvise.hold import holders
from pmadvise.hold.choice import METHODS, Choice
from pmadvise.hold.shared import Part


def hold(
    identity: Identity,
    method: str = "auto",
    timeout: float = 1.0,
    whole_cgroup: bool = False,
) -> Hold:
    """Return a context manager; the process does not run while its block does.

    It runs on when the block ends, when it raises (even if memory is short, or if a
    signal handler raises at any instant), and when the caller is killed, with SIGKILL
    too and even after it forked (unless the fork was one that Python does not see).
    Exception: a frozen process stays frozen if the caller's whole cgroup is killed at
    once. Holds of one process in one process join: a later one takes part in the
    earlier, whatever its method, and the last lets go.

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
    it can be seen (the target traces the caller); two copies of a daemon that may hold
    each other are not seen in time: run one instance (a lock file), or leave each other
    out.

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
    if not isinstance(method, str):
        raise TypeError(f"method {method!r} is not a str but {type(method).__name__}")
    if method != "auto" and method not in METHODS:
        raise ValueError(f"method {method!r} is none of auto, {', '.join(METHODS)}")
    if not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout {timeout!r} is not a number of seconds")
    if not timeout >= 0:
        raise ValueError(f"timeout {timeout!r} is not 0 s or longer")
    if not isinstance(whole_cgroup, bool):
        raise TypeError(f"whole_cgroup {whole_cgroup!r} is not a bool")
    return Hold(Choice(identity, method, whole_cgroup), _seconds(timeout))


def _seconds(timeout: float) -> float:
    """Return a timeout as a float; an int that has none is as good as endless."""
    try:
        return float(timeout)
    except OverflowError:
        return math.inf


_Leave = Callable[
    [type[BaseException] | None, BaseException | None, TracebackType | None], None
]


class _Exit:
    """``Hold.__exit__``: a callable that is looked up before the block is entered.

    A ``with`` statement keeps what it found for as long as it runs and drops it in the
    end, even if an exception of a signal handler strikes at the first instruction of
    ``__exit__`` or at the last one of ``__enter__``. So each look-up gives an object of
    its own, and the hold ends when that object dies, called or not.

    Args:
        leave: Function that ends a hold.
        watch: Function that gets a hold and the object that was looked up.
    """

    def __init__(
        self, leave: Callable[..., None], watch: Callable[[Hold, object], None]
    ) -> None:
        self._leave = leave
        self._watch = watch

    def __get__(self, held: Hold | None, owner: type[Hold] | None = None) -> _Leave:
        if held is None:
            return self._leave  # contextlib.ExitStack calls it with the hold
        leave = functools.partial(self._leave, held)
        self._watch(held, leave)
        return leave


class Hold:
    """A process held still: the context manager that ``hold()`` returns.

    It can be entered once. Entering raises PermissionError when the method, or none
    for "auto", can hold the process here and now, with the reason; TimeoutError when
    it can't be stopped in time, and it was let go; ProcessLookupError when it has
    ended or is a kernel thread; ValueError when its handle is closed. Leaving does not
    raise, even if the process died.

    In a ``with`` statement an exception at any instant ends the hold, even before
    ``__exit__`` has begun. Entered by hand or by contextlib.ExitStack, it ends at the
    latest when nothing refers to it any more, and a kept traceback may.

    Attributes:
        method: What holds it; before entering what was asked for.
        refused: Why the methods tried before, or the one asked for when an earlier
            hold was joined, do not: {method: reason}.
    """

    __slots__ = (
        "__weakref__",
        "_choice",
        "_guard",
        "_owner",
        "_part",
        "_timeout",
        "method",
        "refused",
    )

    def __init__(self, choice: Choice, timeout: float) -> None:
        self.method = choice.method
        self.refused = choice.refused
        self._choice = choice
        self._timeout = timeout
        self._owner = 0  # pid of the process whose hold it is; 0: not yet entered
        self._part: Part | None = None
        self._guard: weakref.ref[object] = weakref.ref(self)

    @property
    def broken(self) -> str | None:
        """Known on leaving: None if the process did not run while the block did.

        Else what ended the hold from outside (SIGCONT, a move to another cgroup, a
        thaw), or put it at risk (the freezer's watchdog was killed).
        """
        return self._part.broken if self._part is not None else None

    def __enter__(self) -> Hold:
        """Stop the process; the class says what this raises."""
        if self._owner:
            raise RuntimeError("a Hold can be entered once: ask for a new one")
        self._owner = os.getpid()
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
        # Nothing there refers to the hold itself, whose end may be its only leaving.
        self._part = Part(key, self._choice, self._guard, deadline)
        self.method = holders.join(self._part).method
        if asked not in ("auto", self.method):
            self.refused[asked] = f"joined an earlier hold, by {self.method}"

    def _leave(self, *_: object) -> None:
        """End the hold; may be called again, and before it is entered."""
        part = self._part
        if part is None or self._owner != os.getpid():
            return
        # Without memory its thread lets go alone: it is asked to by the first step.
        with contextlib.suppress(MemoryError):
            holders.leave(part)

    def _watch(self, leave: object) -> None:
        """End the hold when `leave` dies; without effect once it is entered."""
        if not self._owner:
            self._guard = weakref.ref(leave)

    __exit__ = _Exit(_leave, _watch)
