"""Exceptions of the caller's own functions in advise_each()."""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.targets import MIB, Target

from pmadvise import Advice, Process, Report, advise_each

pytestmark = pytest.mark.needs_root

SIZE = 4 * MIB


class WithReport(Exception):
    """Has names of its own for what is attached to exceptions."""

    report = property(lambda self: "its own")
    reports = property(lambda self: "its own")


ERRORS = [
    TimeoutError(errno.ETIMEDOUT, "ours"),
    PermissionError(errno.EACCES, "ours"),
    ProcessLookupError(errno.ESRCH, "ours"),
    StopIteration("ours"),
    GeneratorExit("ours"),
    WithReport("ours"),
    KeyboardInterrupt("ours"),
]


def raiser(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises it."""

    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.fixture
def process(target: Target) -> Iterator[Process]:
    """A handle of a process that has memory."""
    target.filled(SIZE)
    with Process(target.pid) as opened:
        yield opened


OPTIONS: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "stop": lambda function: function,
    "cancel": lambda function: SimpleNamespace(is_set=function),
    "on_progress": lambda function: function,
    "select": lambda function: function,
}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", OPTIONS)
def test_of_a_function(process: Process, name: str, error: BaseException) -> None:
    """It leaves the call as it is, with the results so far, and is no result."""
    options: Any = {name: OPTIONS[name](raiser(error))}
    with pytest.raises(type(error)) as caught:
        advise_each([process, process], Advice.COLD, **options)
    assert caught.value is error
    if not isinstance(error, WithReport):
        assert getattr(error, "reports") == []  # noqa: B009 - of no class


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["cancel", "on_progress"])
def test_of_one_process(process: Process, name: str, error: BaseException) -> None:
    """It leaves advise() as it is."""
    options: Any = {name: OPTIONS[name](raiser(error))}
    with pytest.raises(type(error)) as caught:
        process.cold(**options)
    assert caught.value is error
    if not isinstance(error, WithReport):
        assert isinstance(getattr(error, "report"), Report)  # noqa: B009 - likewise


def test_of_a_function_in_c(process: Process) -> None:
    """A function without a frame of Python's own, that the kernel refuses."""
    for stop in (functools.partial(os.stat, "/nowhere"), os.getpid):
        if stop is os.getpid:
            results = advise_each([process], Advice.COLD, stop=stop)
            assert isinstance(results[0][1], Report)
        else:
            with pytest.raises(FileNotFoundError, match="nowhere"):
                advise_each([process], Advice.COLD, stop=stop)


@pytest.mark.parametrize("wrong", [5, None, "12", os])
def test_no_process(process: Process, wrong: object) -> None:
    """What is no Process is refused before anybody is advised, and by an iterator."""
    text = f"processes[1] {wrong!r} is not a Process"
    for given, n_results in (([process, wrong], None), (iter([process, wrong]), 1)):
        with pytest.raises(TypeError, match=re.escape(text)) as caught:
            advise_each(given, Advice.COLD)  # type: ignore[arg-type]
        reports = getattr(caught.value, "reports", None)
        assert (None if reports is None else len(reports)) == n_results


@pytest.mark.parametrize("name", ["timeout", "max_stall"])
def test_endless_time(process: Process, name: str) -> None:
    """An int that no float can hold is as good as no limit."""
    [(_, outcome)] = advise_each([process], Advice.COLD, **{name: 10**400})  # type: ignore[arg-type]
    assert isinstance(outcome, Report)
    assert outcome.ended == "complete"
