"""A function in a forked child, which may give up rights for good."""

from __future__ import annotations

import faulthandler
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest


class Lacking(Exception):
    """This host refuses what a test needs: the message has what, and the remedy."""


class Outcome(NamedTuple):
    """How a function ended that ran in a child."""

    error: str | None
    """The name of the exception's type."""
    errno: int | None
    text: str
    value: Any


def in_child(function: Callable[[], object]) -> Outcome:
    """Run `function` in a fork; skip the test where it raises Lacking."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            outcome = Outcome(None, None, "", function())
        except BaseException as error:
            outcome = Outcome(
                type(error).__name__,
                getattr(error, "errno", None),
                str(error)
                if isinstance(error, (OSError, Lacking))
                else traceback.format_exc(),
                None,
            )
        os.write(writer, pickle.dumps(tuple(outcome)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    outcome = Outcome(*pickle.loads(answer))
    if outcome.error == Lacking.__name__:
        pytest.skip(outcome.text)
    return outcome


def value_of_child(function: Callable[[], object]) -> Any:
    """Run `function` in a fork and return its value; fail where it raises."""
    outcome = in_child(function)
    assert outcome.error is None, f"{outcome.error}: {outcome.text}"
    return outcome.value


def die_silently() -> None:
    """Let this child, which may well crash, print nothing: its parent looks at it."""
    faulthandler.disable()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
