"""Pressure: a trigger of the kernel's pressure stall information."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.hold_targets import Cgroup, cgroup_of
from helpers.targets import MIB
from helpers.waiting import until

from pmadvise import Pressure
from pmadvise._proc.cgroups import hierarchies

HOG = """
import mmap, os
open(os.path.join({path!r}, "cgroup.procs"), "w").write(str(os.getpid()))
memory = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
while True:
    for offset in range(0, len(memory), mmap.PAGESIZE):
        memory[offset] = 1
"""


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A cgroup of the test's own, of v2."""
    with cgroup_of(2) as found:
        yield found


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"stall": 0}, ValueError, "stall 0 s"),
        ({"stall": 3.0}, ValueError, "stall 3.0 s"),
        ({"stall": 1e-9}, ValueError, "1e-09"),
        ({"stall": "1"}, TypeError, "stall '1'"),
        ({"window": 0.4}, ValueError, "window 0.4 s"),
        ({"window": 11}, ValueError, "window 11 s"),
        ({"window": float("nan")}, ValueError, "window nan s"),
        ({"path": "/no/such"}, FileNotFoundError, "/no/such.*PSI"),
    ],
)
def test_wrong_arguments(
    arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    """A wrong argument is refused by its value, and nothing stays open."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(error, match=words):
        Pressure(**arguments)  # type: ignore[arg-type]
    assert os.listdir("/proc/self/fd") == before


def test_not_fired() -> None:
    """A trigger that has just been set has not fired."""
    with Pressure(stall=2.0) as pressure:
        assert pressure.wait(0) is False


def test_window_that_the_kernel_takes() -> None:
    """The stall stays in proportion where the kernel wants a longer window."""
    with Pressure(stall=0.1, window=1.0) as pressure:
        assert (pressure.stall, pressure.window) in [(0.1, 1.0), (0.2, 2.0)]


def test_refused_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two refusals the message has both what was asked and what was tried."""

    def refuse(fd: int, text: bytes) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match=r"stall 0\.1 s in a window of 1 s, nor for 0\.2"):
        Pressure(stall=0.1, window=1.0)


def test_closed() -> None:
    """A closed one is refused, and may be closed again."""
    pressure = Pressure()
    pressure.close()
    pressure.close()
    with pytest.raises(ValueError, match="closed"):
        pressure.wait(0)


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A cgroup whose processes may have 32 MiB in memory: of v2, or else of v1."""
    for hierarchy in hierarchies():
        mount = Path(os.fsdecode(hierarchy.mount))
        if hierarchy.version == 2:
            if "memory" not in (mount / "cgroup.controllers").read_text().split():
                continue
            (mount / "cgroup.subtree_control").write_text("+memory")
            limit = "memory.max"
        elif b"memory" in hierarchy.controllers:
            limit = "memory.limit_in_bytes"
        else:
            continue
        path = mount / f"pmadvise-test-{os.getpid()}-pressure"
        path.mkdir()
        (path / limit).write_text(str(32 * MIB))
        yield path
        procs = path / "cgroup.procs"
        until(lambda procs=procs: not procs.read_text(), "its processes are gone")  # type: ignore[misc]
        path.rmdir()
        return
    raise AssertionError("no hierarchy has the memory controller")


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
def test_fires(small_cgroup: Path) -> None:
    """Pressure fires it: for wait(), and for poll(2) by its fileno()."""
    poll = select.poll()
    with (
        Pressure(stall=0.01) as pressure,
        subprocess.Popen(
            [sys.executable, "-c", HOG.format(path=str(small_cgroup))],
        ) as hog,
    ):
        poll.register(pressure, select.POLLPRI)
        assert poll.poll(60_000) == [(pressure.fileno(), select.POLLPRI)]
        assert pressure.wait(60) is True
        hog.kill()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_its_cgroup_goes(cgroup: Cgroup) -> None:
    """A trigger whose cgroup is removed ends, rather than to spin."""
    below = cgroup.child()
    with Pressure(below.path / "memory.pressure") as pressure:
        below.close()
        with pytest.raises(OSError, match="has been removed") as caught:
            pressure.wait(60)
    assert caught.value.errno == errno.ENODEV


def test_wait_for_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout that no float holds is for ever."""

    class Poll:
        def register(self, fd: int, events: int) -> None:
            """Take anything."""

        def poll(self, milliseconds: int) -> list[tuple[int, int]]:
            """Fire at once."""
            return [(0, select.POLLPRI)]

    monkeypatch.setattr(select, "poll", Poll)
    with Pressure() as pressure:
        assert pressure.wait(timeout=10**400)
