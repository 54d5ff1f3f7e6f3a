"""Cgroups of a test's own, to run a program in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

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
