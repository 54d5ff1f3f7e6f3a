"""OSErrors of a signal handler, at each step of a call: they leave it as they are."""

from __future__ import annotations

import errno
import sys
from types import FrameType

import pytest
from helpers.public_calls import CALLS
from helpers.targets import Target

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("no_gc")]

STRIKES = 100
ERRORS = [TimeoutError, FileNotFoundError, PermissionError, ProcessLookupError]
NAMES = [
    "status",
    "memory",
    "resident",
    "cold",
    "advise_each",
    "support",
    "swap",
    "pressure",
    "hold_auto",
]


class Strike:
    """A profile function that raises an exception at the n-th step of the package.

    A signal handler runs at these places too: as a function begins, and after a call
    into C. Unlike a signal it comes at the same step each time.

    Args:
        n: From 1; 0: never.
        kind: Of the exception.
    """

    def __init__(self, n: int, kind: type[OSError]) -> None:
        self.steps, self._n = 0, n
        self.error = kind(errno.EIO, "of the handler")

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        name = frame.f_globals.get("__name__", "")
        if event in ("call", "c_return") and name.startswith("pmadvise"):
            self.steps += 1
            if self.steps == self._n:
                raise self.error


def struck(name: str, pid: int, strike: Strike) -> BaseException | None:
    """Return the exception that leaves a call."""
    sys.setprofile(strike)
    try:
        CALLS[name](pid)
    except BaseException as error:
        return error
    finally:
        sys.setprofile(None)
    return None


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """The exceptions that end in a callback of Python, such as a generator's end."""
    found: list[BaseException | None] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda unraisable: found.append(unraisable.exc_value)
    )
    return found


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("name", NAMES)
def test_a_handler_is_heard(
    name: str, kind: type[OSError], target: Target, lost: list[BaseException | None]
) -> None:
    """No OSError of a handler is taken for the kernel's answer, or translated."""
    struck(name, target.pid, Strike(0, kind))  # which loads modules
    whole = Strike(0, kind)
    struck(name, target.pid, whole)
    for n in range(1, whole.steps, max(whole.steps // STRIKES, 1)):
        strike = Strike(n, kind)
        error = struck(name, target.pid, strike)
        if strike.steps >= n and strike.error not in lost:
            assert error is strike.error, n
