"""Pressure in event loops: asyncio, trio and poll(2) wake once an event."""

from __future__ import annotations

import asyncio
import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.hold_targets import Cgroup, cgroup_of
from helpers.needs import ROOT
from helpers.short_memory import short_of_memory

from pmadvise import Pressure


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A cgroup of the test's own, of v2."""
    with cgroup_of(2) as found:
        yield found


def count_by_asyncio(pressure: Pressure, events: int) -> int:
    """Return how often a reader is called, until it was `events` times or more."""
    calls = 0

    async def count() -> None:
        done = asyncio.Event()

        def fired() -> None:
            nonlocal calls
            calls += 1
            if calls >= events:
                done.set()

        loop = asyncio.get_running_loop()
        loop.add_reader(pressure, fired)
        for _ in range(100):
            await asyncio.sleep(0)  # the loop looks each time
        if events:
            await done.wait()
            for _ in range(100):
                await asyncio.sleep(0)
        loop.remove_reader(pressure)

    asyncio.run(count())
    return calls


def count_by_trio(pressure: Pressure, events: int) -> int:
    """Return how often a task wakes."""
    trio = pytest.importorskip("trio", reason="no trio: pip install .[test]")
    calls = 0

    async def count() -> None:
        nonlocal calls
        while calls < events:
            await trio.lowlevel.wait_readable(pressure)
            calls += 1
        with trio.move_on_after(0.01):
            await trio.lowlevel.wait_readable(pressure)
            calls += 1

    trio.run(count)
    return calls


def count_by_poll(pressure: Pressure, events: int) -> int:
    """Return how often poll(2) returns."""
    poll = select.poll()
    poll.register(pressure, select.POLLIN)
    calls = 0
    while calls < events:
        calls += len(poll.poll())
    return calls + sum(len(poll.poll(0)) for _ in range(100))


every_loop = pytest.mark.parametrize(
    "count", [count_by_asyncio, count_by_trio, count_by_poll]
)


@every_loop
def test_a_loop_rests(count: Callable[[Pressure, int], int]) -> None:
    """No loop finds a trigger readable that has not fired."""
    with Pressure(stall=2.0) as pressure:
        assert count(pressure, 0) == 0


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
@every_loop
def test_a_loop_is_woken_once_an_event(
    small_cgroup: Path, count: Callable[[Pressure, int], int]
) -> None:
    """A loop that reads nothing wakes at most as often as a trigger fires."""
    begin = time.monotonic()
    with Pressure(stall=0.01) as pressure, short_of_memory(small_cgroup):
        calls = count(pressure, 2)
    most = 1 + (time.monotonic() - begin) // pressure.window  # which the kernel keeps
    assert 2 <= calls <= most


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_a_callback_that_asks_is_called_once(cgroup: Cgroup) -> None:
    """Once the cgroup is removed, wait(0) in a callback keeps a loop from spinning."""
    below = cgroup.child()
    calls = 0

    async def count(pressure: Pressure) -> None:
        told = asyncio.Event()

        def fired() -> None:
            nonlocal calls
            calls += 1
            with contextlib.suppress(OSError):
                pressure.wait(0)
            told.set()

        asyncio.get_running_loop().add_reader(pressure, fired)
        below.close()
        await told.wait()
        for _ in range(100):
            await asyncio.sleep(0)

    with Pressure(below.path / "memory.pressure") as pressure:
        asyncio.run(count(pressure))
    assert calls == 1


EXAMPLES = ["by_asyncio", "by_trio", "by_poll"]


@contextlib.contextmanager
def example(name: str, path: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program of the guide, which watches a pressure file."""
    if name == "by_trio":
        pytest.importorskip("trio", reason="no trio: pip install .[test]")
    program = subprocess.Popen(
        [sys.executable, str(ROOT / f"docs/examples/pressure/{name}.py"), path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        yield program
        program.kill()


@pytest.mark.needs_sources
@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_reports_pressure(small_cgroup: Path, name: str) -> None:
    """A program of the guide prints a line each time that memory is short."""
    with (
        example(name, "/proc/pressure/memory") as program,
        short_of_memory(small_cgroup),
    ):
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(2)]
    assert lines == ["memory is short\n"] * 2


@pytest.mark.needs_sources
@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_ends_with_its_cgroup(cgroup: Cgroup, name: str) -> None:
    """A program of the guide ends, and tells why, once its cgroup is removed."""
    below = cgroup.child()
    with example(name, str(below.path / "memory.pressure")) as program:
        below.close()
        out, errors = program.communicate(timeout=60)
        assert (program.returncode, out) == (1, "")
        assert errors.endswith("cgroup.pressure was set to 0\n")
