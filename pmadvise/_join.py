"""Stops that several holds share: the first takes one, the last lets go."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Protocol


class Stop(Protocol):
    """A target, or a cgroup, that is stopped from ``take()`` until ``release()``.

    Two steps, so that it has a place before anything is stopped: an exception at
    any instant, KeyboardInterrupt too, then finds what to release.
    """

    @property
    def method(self) -> str:
        """By what it is stopped."""

    def take(self, deadline: float) -> None:
        """Stop it; after an exception it is still to be released."""

    def broken(self) -> str | None:
        """Return why the target may have run since, None if it did not."""

    def release(self) -> None:
        """Let the target go; may be called again, to finish what was interrupted."""


class Shared:
    """The stop that the holders of one key have together, None if there is none."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # held while stopping and releasing
        self.holders: set[object] = set()
        self.stop: Stop | None = None


# Reentrant, both: a finalizer may give up a hold wherever memory is allocated.
_lock = threading.RLock()
_entries: dict[Hashable, Shared] = {}


def join(
    key: Hashable, holder: object, deadline: float, take: Callable[[Shared], None]
) -> Stop:
    """Return the stop of `key`, that of others or a new one.

    One that was broken from outside is taken anew.

    Args:
        key: What is stopped.
        holder: Whoever will ``leave()``, unless this raises.
        deadline: Of time.monotonic(), in seconds, for others who are busy with it.
        take: Puts a stop in its place, then takes it.

    Raises:
        TimeoutError: Others were busy with it until the deadline.
    """
    entry = _lock_entry(key, deadline)
    try:
        entry.holders.add(holder)
        if entry.stop is not None and _look(entry.stop):
            entry.stop.release()
            entry.stop = None
        if entry.stop is None:
            take(entry)
        assert entry.stop is not None
        return entry.stop
    except BaseException:
        _give_up(key, entry, holder)
        raise
    finally:
        entry.lock.release()


def leave(key: Hashable, holder: object, stop: Stop | None = None) -> str | None:
    """Give up the holder's part in the stop of `key`; may be called again.

    Args:
        stop: What ``join()`` returned, to be looked at before it ends.

    Returns:
        Why the target may have run, None if it did not.
    """
    entry = _entries.get(key)
    if entry is None:
        return None
    broken = None
    with entry.lock:
        if stop is not None and holder in entry.holders:
            if entry.stop is stop:
                broken = _look(stop)
            else:
                broken = "it ran, and another hold stopped it again"
        _give_up(key, entry, holder)
    return broken


def _lock_entry(key: Hashable, deadline: float) -> Shared:
    while True:
        with _lock:
            entry = _entries.setdefault(key, Shared())
        wait = min(max(deadline - time.monotonic(), 0), threading.TIMEOUT_MAX)
        if not entry.lock.acquire(timeout=wait):
            raise TimeoutError(errno.ETIMEDOUT, "another hold of it is being taken")
        if _entries.get(key) is entry:
            return entry
        entry.lock.release()  # its last holder left while we waited


def _give_up(key: Hashable, entry: Shared, holder: object) -> None:
    """Take a holder away, with the entry's lock held; the last one lets go."""
    entry.holders.discard(holder)
    if entry.holders:
        return
    if entry.stop is not None:
        entry.stop.release()
        entry.stop = None
    with _lock:
        if _entries.get(key) is entry:
            del _entries[key]


def _look(stop: Stop) -> str | None:
    try:
        return stop.broken()
    except ProcessLookupError:
        return None  # it died
    except OSError as error:
        return f"it can't be looked at: {error}"


def _forget() -> None:
    """In a forked child: what is held is the parent's."""
    global _lock
    _lock = threading.RLock()
    _entries.clear()


os.register_at_fork(after_in_child=_forget)
