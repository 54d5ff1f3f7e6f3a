"""What the selftest has to undo, however it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = signal.SIGHUP, signal.SIGINT, signal.SIGTERM

_cleanups: list[Callable[[], None]] = []


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block signals, so that nothing is made without being registered."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def register(cleanup: Callable[[], None]) -> None:
    """Let clean_up() call a function, which has to take itself off by unregister()."""
    _cleanups.append(cleanup)


def unregister(cleanup: Callable[[], None]) -> bool:
    """Take a function off; return False if it was not registered."""
    if cleanup not in _cleanups:
        return False
    _cleanups.remove(cleanup)
    return True


def clean_up() -> None:
    """End the processes that are left, and remove the cgroups."""
    with signals_blocked():
        while _cleanups:
            _cleanups[-1]()
