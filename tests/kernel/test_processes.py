"""processes(): handles of a cgroup, of a tree, of the host."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import proc
from helpers.descriptors import only_descriptors
from helpers.hold_targets import Cgroup, cgroup_of
from helpers.targets import Target
from helpers.waiting import until

from pmadvise import Process, processes

PF_KTHREAD = 0x200000
CHILDREN = """
import os, time
for _ in range(2):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(999)
        time.sleep(999)
print("ready", flush=True)
time.sleep(999)
"""
STORM = """
import os, time
print("ready", flush=True)
while True:
    if os.fork() == 0:
        os._exit(0)
    os.waitpid(-1, 0)
"""


def pids_of(found: Iterator[Process]) -> list[int]:
    """Return the process IDs of handles, and close these."""
    pids = []
    for process in found:
        with process:
            pids.append(process.pid)
    return pids


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a program in a session of its own, which is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start_one(code: str) -> subprocess.Popen[str]:
        popen = subprocess.Popen(
            [sys.executable, "-ISc", code],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(popen)
        assert popen.stdout is not None
        assert popen.stdout.readline() == "ready\n"
        return popen

    yield start_one
    for popen in started:
        os.killpg(popen.pid, signal.SIGKILL)
        popen.communicate()


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A cgroup of the test's own, of v2."""
    with cgroup_of(2) as found:
        yield found


def test_host(target: Target) -> None:
    """Those of the host have the caller and its children among them, once each."""
    found = pids_of(processes())
    assert {os.getpid(), target.pid} <= set(found)
    assert len(found) == len(set(found))


def test_host_has_no_kernel_thread() -> None:
    """Kernel threads have no memory, and are left out."""
    kernel_threads = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it exits
            flags = path.read_bytes().rpartition(b")")[2].split()[6]
            if int(flags) & PF_KTHREAD:
                kernel_threads.add(int(path.parent.name))
    assert not kernel_threads & set(pids_of(processes()))


def test_zombie_is_left_out(target: Target) -> None:
    """A zombie has no memory, and is left out."""
    target.popen.kill()
    os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
    assert target.pid not in pids_of(processes(tree=os.getpid()))


def test_tree(start: Callable[[str], subprocess.Popen[str]], target: Target) -> None:
    """A tree is the process, its children and theirs, and nobody else."""
    root = start(CHILDREN)
    until(lambda: len(proc.session(root.pid)) == 5, "the family is complete")
    found = pids_of(processes(tree=root.pid))
    assert found[0] == root.pid
    assert sorted(found) == proc.session(root.pid)
    assert target.pid not in found


def test_storm_of_forks(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """Processes that exit while they are listed are left out, without an error."""
    root = start(STORM)
    for _ in range(30):
        assert root.pid in pids_of(processes(tree=root.pid))
        assert root.pid in pids_of(processes())


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_cgroup(cgroup: Cgroup, target: Target) -> None:
    """Those of a cgroup and of the cgroups below it are found, and no others."""
    below = cgroup.child()
    try:
        other = Target()
        cgroup.add(target.pid)
        below.add(other.pid)
        found = pids_of(processes(cgroup=cgroup.path))
        other.close()
        assert sorted(found) == sorted([target.pid, other.pid])
    finally:
        below.close()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_cgroup_with_a_threaded_one(cgroup: Cgroup, target: Target) -> None:
    """A threaded cgroup below has no processes of its own, and is no error."""
    below = cgroup.path / "below"
    below.mkdir()
    try:
        (below / "cgroup.type").write_text("threaded")
        cgroup.add(target.pid)
        assert pids_of(processes(cgroup=cgroup.path)) == [target.pid]
        (below / "cgroup.threads").write_text(str(target.pid))
        assert pids_of(processes(cgroup=cgroup.path)) == [target.pid]
        (cgroup.path / "cgroup.threads").write_text(str(target.pid))
    finally:
        below.rmdir()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("of", ["tree", "cgroup"])
def test_no_descriptor_is_an_error(cgroup: Cgroup, target: Target, of: str) -> None:
    """Where no file descriptor is free, nobody is silently left out."""
    below = cgroup.child()
    try:
        below.add(target.pid)
        asked = {"cgroup": cgroup.path} if of == "cgroup" else {"tree": os.getpid()}
        for n_free in range(12):
            found, number = [target.pid], errno.EMFILE
            with only_descriptors(n_free):
                try:
                    found, number = pids_of(processes(**asked)), 0
                except OSError as error:
                    number = error.errno or 0
            assert number in (0, errno.EMFILE)
            assert target.pid in found
        assert number == 0
    finally:
        below.close()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_cgroup_by_its_path(cgroup: Cgroup, target: Target) -> None:
    """A cgroup may be named as /proc/PID/cgroup names it."""
    cgroup.add(target.pid)
    lines = Path(f"/proc/{target.pid}/cgroup").read_text().split("\n")
    path = next(line for line in lines if line.startswith("0::"))[3:]
    assert pids_of(processes(cgroup=path)) == [target.pid]


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_moved_meanwhile(cgroup: Cgroup, target: Target) -> None:
    """One that has left the cgroup since it was listed is left out."""
    other = Target()
    for pid in (target.pid, other.pid):
        cgroup.add(pid)
    found = processes(cgroup=cgroup.path)
    with next(found) as one:
        moved = ({target.pid, other.pid} - {one.pid}).pop()
    (cgroup.path.parent / "cgroup.procs").write_text(str(moved))
    assert pids_of(found) == []
    other.close()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"cgroup": "/no/such"}, FileNotFoundError, "/no/such"),
        ({"tree": "1"}, TypeError, "tree"),
        ({"tree": 1, "cgroup": "/"}, ValueError, "only one of them"),
        ({"tree": 2**31 - 1}, ProcessLookupError, "2147483647"),
    ],
)
def test_wrong_arguments(
    arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    """A wrong argument is refused at once, by its value."""
    with pytest.raises(error, match=words):
        processes(**arguments)  # type: ignore[arg-type]


def test_handles_are_closed_when_forgotten(target: Target) -> None:
    """A loop that is left early leaks no descriptor."""
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        next(processes(tree=os.getpid()))
    assert sorted(os.listdir("/proc/self/fd")) == before
