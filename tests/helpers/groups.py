"""A target in a cgroup of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from helpers.cgroups import temporary_cgroup
from helpers.needs import cgroup_mount
from helpers.waiting import until


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
