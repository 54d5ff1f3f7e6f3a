"""The origin of exceptions: of the package, or of the caller's code."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from pmadvise._native.base import check
from pmadvise._origin import own


def of_package() -> None:
    """Raise FileNotFoundError as the package does."""
    check(-errno.ENOENT, "a call")


def of_handler() -> None:
    """Raise FileNotFoundError as other code does."""
    raise FileNotFoundError(errno.ENOENT, "of a handler")


def caught(function: Callable[[], None], *kinds: type[OSError]) -> bool:
    """Return whether an except clause of own() catches what a function raises."""
    try:
        function()
    except own(*kinds):
        return True
    except FileNotFoundError:
        return False
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "kinds", "is_caught"),
    [
        (of_package, [OSError], True),
        (of_package, [PermissionError, FileNotFoundError], True),
        (of_package, [PermissionError], False),
        (of_handler, [OSError], False),
        (of_handler, [FileNotFoundError], False),
    ],
)
def test_own(
    function: Callable[[], None], kinds: list[type[OSError]], is_caught: bool
) -> None:
    """An error is caught where the package raised it, and only by its kind."""
    assert caught(function, *kinds) is is_caught
