"""Processes to hold, and a look at what a test leaves behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from helpers.hold_targets import (
    Cgroup,
    Running,
    cgroup_of,
    check_nothing_left,
    hold_census,
)
from helpers.waiting import until


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Check that a test leaves no descriptor, thread, child or hold behind."""
    before = hold_census()
    yield
    check_nothing_left(before)


@pytest.fixture
def cgroup(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    """A cgroup of the target's own, of v2 unless parametrized."""
    with cgroup_of(getattr(request, "param", 2)) as own:
        yield own


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start processes that are killed at the end."""
    with contextlib.ExitStack() as stack:

        def start_target(*args: object, **kwargs: object) -> Running:
            running = Running(*args, **kwargs)  # type: ignore[arg-type]
            stack.callback(running.close)
            return running

        yield start_target


@pytest.fixture
def target(
    request: pytest.FixtureRequest, start: Callable[..., Running]
) -> Iterator[Running]:
    """A process of three threads; in a cgroup of its own where it is to be frozen."""
    running = start()
    if (
        "method" in request.fixturenames
        and request.getfixturevalue("method") == "freezer"
    ):
        with cgroup_of(2) as own:
            own.add(running.pid)
            yield running
    else:
        yield running


@pytest.fixture
def witness(start: Callable[..., Running]) -> Callable[[], None]:
    """Wait until a process like the target has made a hundred steps."""
    other = start()

    def wait() -> None:
        before = other.steps()[0]
        until(lambda: other.steps()[0] >= before + 100, "the witness runs")

    return wait
