"""Cgroups of a test's own: to run a program in, or to put a target into."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.needs import cgroup_mount
from helpers.waiting import until

_V2_MEMORY = {"memory.max": "{}", "memory.swap.max": "0"}
_V1_MEMORY = {"memory.limit_in_bytes": "{}", "memory.swappiness": "0"}


class Cgroup:
    """A cgroup: a process joins it by join()."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        os.mkdir(path)

    def write(self, name: str, text: str) -> None:
        with open(os.path.join(self.path, name.encode()), "w") as file:
            file.write(text)

    def join(self) -> None:
        """Move the calling process into it."""
        self.write("cgroup.procs", "0")

    def close(self) -> None:
        """Remove it, once the last process has left it."""

        def removed() -> bool:
            try:
                os.rmdir(self.path)
            except OSError:
                return False
            return True

        until(removed, f"{self.path!r} is removed")


@contextlib.contextmanager
def temporary_cgroup(mount: str | os.PathLike[str], name: bytes) -> Iterator[Cgroup]:
    """Make a cgroup right below a mount of a hierarchy."""
    number = b"%d" % os.getpid()
    cgroup = Cgroup(os.path.join(os.fsencode(mount), b"pmadvise-test-" + number + name))
    try:
        yield cgroup
    finally:
        cgroup.close()


@contextlib.contextmanager
def nested_cgroups(top: Path, name: bytes, depth: int) -> Iterator[int]:
    """Nest cgroups in each other, below `top`; give the directory of the innermost.

    Their paths may be longer than PATH_MAX.
    """
    made = 0
    directory = os.open(top, os.O_PATH)
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=directory)
            made += 1
            directory = _instead(directory, name)
        yield directory
    finally:
        for _ in range(made):
            directory = _instead(directory, b"..")
            _remove(name, directory)
        os.close(directory)


def _instead(directory: int, path: bytes) -> int:
    other = os.open(path, os.O_PATH, dir_fd=directory)
    os.close(directory)
    return other


def _remove(name: bytes, directory: int) -> None:
    def removed() -> bool:
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError:
            return False
        return True

    until(removed, f"{name!r} is removed")


def write_in(directory: int, name: str, text: str) -> None:
    """Write a file of an open cgroup."""
    fd = os.open(name, os.O_WRONLY, dir_fd=directory)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


@contextlib.contextmanager
def memory_cgroup(limit: int, *, swap: bool = False) -> Iterator[Cgroup]:
    """Make a cgroup whose processes have at most `limit` bytes; by default no swap."""
    mount, settings = _memory_mount()
    if swap:
        settings = dict([*settings.items()][:1])
    with temporary_cgroup(mount, b"-memory") as cgroup:
        for name, text in settings.items():
            with contextlib.suppress(FileNotFoundError):  # without swap accounting
                cgroup.write(name, text.format(limit))
        yield cgroup


def _memory_mount() -> tuple[str | os.PathLike[str], dict[str, str]]:
    unified = cgroup_mount(2)
    if unified is not None:
        controllers = (unified / "cgroup.subtree_control").read_text().split()
        if "memory" in controllers:
            return unified, _V2_MEMORY
    if os.path.exists("/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        return "/sys/fs/cgroup/memory", _V1_MEMORY
    pytest.skip("machine: no cgroup hierarchy has the memory controller")


@contextlib.contextmanager
def new_cgroup(parent: Path, pid: int, **settings: str) -> Iterator[Path]:
    """Put a process into a new cgroup that has these settings, until the end.

    Args:
        parent: The cgroup above it.
        pid: The process, which goes back to `parent`.
        settings: Values by the names of files, "__" for ".".
    """
    with temporary_cgroup(parent, b"-target") as cgroup:
        for name, value in settings.items():
            cgroup.write(name.replace("__", "."), value)
        cgroup.write("cgroup.procs", str(pid))
        try:
            yield Path(os.fsdecode(cgroup.path))
        finally:
            with contextlib.suppress(ProcessLookupError):
                (parent / "cgroup.procs").write_text(str(pid))


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process by a cgroup v2 of its own, until the end."""
    mount = cgroup_mount(2)
    assert mount is not None, "to be marked needs_cgroup2"
    with new_cgroup(mount, pid) as path:
        control = path / "cgroup.freeze"
        control.write_text("1")
        try:
            events = path / "cgroup.events"
            until(lambda: "frozen 1\n" in events.read_text(), "the cgroup is frozen")
            yield
            assert "frozen 1\n" in events.read_text()
        finally:
            control.write_text("0")


def cpuset_mount() -> Path | None:
    """Return where cpusets are mounted, of cgroup v1 or v2."""
    for line in Path("/proc/self/mountinfo").read_text().split("\n"):
        left, _, right = line.partition(" - ")
        kind, *_, options = right.split(" ") if right else ("", "")
        if kind == "cgroup" and "cpuset" in options.split(","):
            return Path(left.split()[4])
    mount = cgroup_mount(2)
    if mount and "cpuset" in (mount / "cgroup.controllers").read_text().split():
        (mount / "cgroup.subtree_control").write_text("+cpuset")
        return mount
    return None
