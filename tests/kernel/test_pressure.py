"""Pressure: a trigger of the kernel's pressure stall information."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.children import value_of_child
from helpers.hold_targets import Cgroup, cgroup_of
from helpers.namespaces import bind, mount_proc_at
from helpers.short_memory import short_of_memory

from pmadvise import Pressure, pressure
from pmadvise._native.descriptor import Descriptor


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

    def opened(path: str) -> Descriptor:
        pidfd = Descriptor()  # which refuses what is written to it: EINVAL
        pidfd.open_process(os.getpid())
        return pidfd

    monkeypatch.setattr(pressure, "_open", opened)
    with pytest.raises(OSError, match=r"stall 0\.1 s in a window of 1 s, nor for 0\.2"):
        Pressure(stall=0.1, window=1.0)


def test_closed() -> None:
    """A closed one is refused, and may be closed again."""
    pressure = Pressure()
    pressure.close()
    pressure.close()
    with pytest.raises(ValueError, match="closed"):
        pressure.wait(0)


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
def test_fires(small_cgroup: Path) -> None:
    """Pressure fires it: for wait(), and for poll(2) by its fileno()."""
    poll = select.poll()
    with Pressure(stall=0.01) as pressure, short_of_memory(small_cgroup):
        poll.register(pressure, select.POLLIN)
        assert poll.poll(60_000) == [(pressure.fileno(), select.POLLIN)]
        assert pressure.wait(60) is True


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_no_loop_spins_on_a_removed_cgroup(cgroup: Cgroup) -> None:
    """wait() reports the removal each time; the descriptor is readable until then."""
    below = cgroup.child()
    with Pressure(below.path / "memory.pressure") as pressure:
        below.close()
        poll = select.poll()
        poll.register(pressure, select.POLLIN)
        assert poll.poll(60_000) == [(pressure.fileno(), select.POLLIN)]
        for _ in range(2):
            with pytest.raises(OSError, match="has been removed"):
                pressure.wait(0)
            assert poll.poll(0) == []


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_psi_is_switched_off(cgroup: Cgroup) -> None:
    """A cgroup without PSI is told from a kernel without it, before and after."""
    with Pressure(cgroup.path / "memory.pressure") as pressure:
        (cgroup.path / "cgroup.pressure").write_text("0")
        with pytest.raises(OSError, match=r"cgroup\.pressure was set to 0"):
            pressure.wait(60)
    with pytest.raises(FileNotFoundError, match=r"write 1 to .*/cgroup\.pressure"):
        Pressure(cgroup.path / "memory.pressure")


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
            return [(0, select.POLLIN)]

    monkeypatch.setattr(select, "poll", Poll)
    with Pressure(stall=2.0) as pressure:
        assert pressure.wait(timeout=10**400)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A file of 30 bytes."""
    path = tmp_path / "plain"
    path.write_bytes(b"x" * 30)
    return path


def make_fifo(path: Path) -> Path:
    """Return a FIFO that nobody reads."""
    os.mkfifo(path)
    return path


def make_link(path: Path) -> Path:
    """Return a symbolic link to a device."""
    path.symlink_to("/dev/null")
    return path


@pytest.mark.parametrize(
    "make",
    [
        make_fifo,
        make_link,
        lambda path: path.parent,
        lambda _: "/dev/zero",
        lambda _: "/proc/self/mem",
        lambda _: "/proc/self/comm",
        lambda _: "/proc/pressure",
    ],
    ids=["fifo", "link", "directory", "device", "mem", "comm", "folder"],
)
def test_no_pressure_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """A file of another kind is refused by its name, and nothing stays open."""
    path = str(make(tmp_path / "made"))
    comm = Path("/proc/self/comm").read_text()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match=f"{path!r} is no pressure file"):
        Pressure(path)
    assert os.listdir("/proc/self/fd") == before
    assert Path("/proc/self/comm").read_text() == comm


def test_a_plain_file_is_not_written(plain: Path, tmp_path: Path) -> None:
    """Neither a plain file nor one by a symbolic link is changed."""
    link = tmp_path / "link"
    link.symlink_to(plain)
    for path in plain, link:
        with pytest.raises(ValueError, match="is no pressure file"):
            Pressure(path)
    assert plain.read_bytes() == b"x" * 30


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("name", ["cgroup.procs", "cgroup.kill", "cgroup.pressure"])
def test_no_pressure_file_of_a_cgroup(cgroup: Cgroup, name: str) -> None:
    """Another file of a cgroup is refused."""
    with pytest.raises(ValueError, match="is no pressure file"):
        Pressure(cgroup.path / name)


@pytest.mark.needs_mounts
def test_another_mount_of_proc(tmp_path: Path) -> None:
    """The host's file is known in every mount of /proc, and under another name."""
    outside, renamed = tmp_path / "proc", tmp_path / "psi"
    outside.mkdir()
    renamed.touch()

    def use() -> tuple[bool, bool]:
        mount_proc_at(outside)
        bind("/proc/pressure/memory", renamed)
        with Pressure(outside / "pressure/memory") as one, Pressure(renamed) as other:
            return one.wait(0), other.wait(0)

    assert value_of_child(use) == (False, False)
