"""Ctrl-C while a program of the package loads what it needs: the end, with status 130.

No KeyboardInterrupt, as one may come where none can be raised: in a callback of the
import system it is lost, and in the definition of a class it is another error.
"""

import _signal  # as signal takes a while to load
import os

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


def ends() -> None:
    """Let Ctrl-C end the program, which has begun nothing, at once."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _end)


def raises() -> None:
    """Let Ctrl-C raise KeyboardInterrupt: the program has loaded what it needs."""
    if _signal.getsignal(_signal.SIGINT) is _end:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def _end(*_: object) -> None:
    os._exit(INTERRUPTED)
