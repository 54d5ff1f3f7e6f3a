"""Take part in a stop, and leave it: the side of the holders.

This runs in their threads, where a signal handler may raise at any bytecode: what is
left undone then is done by the thread of the stop.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Hashable

from pmadvise._native.task import task_ended
from pmadvise.hold.shared import Part, SharedStop, stops
from pmadvise.hold.stop import Stop

_STALLED = 0.005
"""Seconds without an answer after which an execve(2) may wait for our reaping."""
_GRACE = 0.25
"""Seconds after its deadline that the thread may take to answer."""
_LEAVING = 2.0
"""Seconds to wait for a target to be let go; one that hangs in execve(2) takes long."""


def held() -> tuple[Hashable, ...]:
    """Return the keys of all that is held in this process."""
    return tuple(stops)


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
    shared = stops.setdefault(part.key, mine)
    if shared.ended and stops.get(part.key) is shared:  # it had no memory to do so
        stops[part.key] = shared = mine
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
    try:
        shared.inbox.put(part)
        shared.ensure_started()
    except (OSError, MemoryError):
        shared.abandon()
        return
    until = time.monotonic() + _LEAVING
    while not part.done.acquire(timeout=_STALLED) and not shared.ended:
        shared.reap()
        if time.monotonic() > until:
            shared.abandon()  # no thread, if it had no memory to begin
            return
    if shared.ended:
        # What the kernel ties to the thread ends with it.
        task_ended(shared.tid, 1_000_000)


@functools.cache
def _forget_in_children() -> None:
    """Forget the parent's holds in every child forked from now on."""
    os.register_at_fork(after_in_child=stops.clear)
