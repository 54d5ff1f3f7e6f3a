"""Every public call where the system lacks something, or is of an unusual size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.children import value_of_child
from helpers.command import IMPORT_PATH
from helpers.namespaces import (
    mount_over,
    mount_proc,
    mount_tmpfs,
    unmount_proc,
    unshare_pids,
    unshare_users,
)
from helpers.needs import ROOT, cgroup_mount
from helpers.public_calls import CALLS, outcome_of
from helpers.stress_rounds import Stress, check_account, in_freezer
from helpers.stress_targets import CALM, CROWD, MOSAIC, REST, StressTarget
from helpers.waiting import wait_for_state

from pmadvise import PAGE_SIZE, Advice, Process
from pmadvise.hold import METHODS

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_compiler]


@pytest.fixture
def target() -> Iterator[StressTarget]:
    """A target that moves, in a cgroup of its own."""
    one = StressTarget(CALM, 1)
    with in_freezer(one, "surroundings"):
        yield one
        one.goes_on()
        assert one.wrong == 0


def read_only_cgroups() -> None:
    """Let nobody write to the cgroups."""
    mount = cgroup_mount(2)
    if mount is not None:
        mount_over(mount, read_only=True)


def other_pids() -> None:
    """Be a process of a new pid namespace, with the /proc of the old one."""
    unshare_pids()
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def waiting_thread() -> None:
    """Let a thread wait for any child, again and again."""

    def wait() -> None:
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                threading.Event().wait(0.0005)

    threading.Thread(target=wait, daemon=True).start()


WITHOUT: dict[str, Callable[[], object]] = {
    "proc": unmount_proc,
    "processes": lambda: mount_proc("hidepid=2"),
    "files_of_proc": lambda: mount_proc("subset=pid"),
    "cgroups": read_only_cgroups,
    "shell": lambda: mount_tmpfs(os.path.realpath("/bin").encode()),
    "users": unshare_users,
    "pids": other_pids,
}
WITH: dict[str, Callable[[], object]] = {
    "sigchld_ignored": lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    "waits_elsewhere": waiting_thread,
}


def outcomes(pid: int, enter: Callable[[], object]) -> dict[str, str]:
    """Return the outcome of every call in a child, in some surroundings."""

    def make_calls() -> dict[str, str]:
        for name in ("maps", "hold_auto"):
            outcome_of(lambda: CALLS[name](pid))  # noqa: B023 - called at once
        enter()
        return {
            name: str(outcome_of(lambda: call(pid)))  # noqa: B023
            for name, call in CALLS.items()
        }

    found: dict[str, str] = value_of_child(make_calls)
    return found


@pytest.mark.parametrize(
    "lacking",
    [
        pytest.param("proc", marks=pytest.mark.needs_mounts),
        pytest.param("processes", marks=pytest.mark.needs_mounts),
        pytest.param("files_of_proc", marks=pytest.mark.needs_mounts),
        pytest.param("cgroups", marks=pytest.mark.needs_mounts),
        pytest.param("shell", marks=pytest.mark.needs_mounts),
        pytest.param("users", marks=pytest.mark.needs_user_namespace),
        pytest.param("pids", marks=pytest.mark.needs_pid_namespace),
    ],
)
def test_lacking(stress: Stress, target: StressTarget, lacking: str) -> None:
    """Where the system lacks something: the result, or an error that tells why."""
    found = outcomes(target.pid, WITHOUT[lacking])
    stress.count("faults_surroundings", len(found))
    assert {
        name: text
        for name, text in found.items()
        if text.startswith(("no clear message", "not an error"))
    } == {}


@pytest.mark.parametrize("surroundings", WITH)
def test_disturbed(stress: Stress, surroundings: str) -> None:
    """Children that are reaped by others, or by the kernel, change no result."""
    target = StressTarget(REST, 4)
    try:
        expected = outcomes(target.pid, lambda: None)
        found = outcomes(target.pid, WITH[surroundings])
        assert target.verify()
    finally:
        target.close()
    stress.count("faults_surroundings", len(found))
    assert found == expected


def test_many_threads(stress: Stress) -> None:
    """A process of thousands of threads is held by each method, and looked at."""
    n_threads = 10_000 if stress.seconds else 3_000
    target = StressTarget(CROWD, n_threads)
    with in_freezer(target, "crowd") as cgroup, Process(target.pid) as process:
        assert process.status().threads == n_threads
        for method in METHODS if cgroup else ("ptrace", "sigstop"):
            with process.hold(method, 60) as hold:
                states = set()
                for task in Path(f"/proc/{target.pid}/task").iterdir():
                    text = (task / "stat").read_bytes().rpartition(b") ")[2]
                    states.add(text[:1])
                assert method == "freezer" or states <= {b"t", b"T"}
                check_account(process.cold(), None, Advice.COLD)
            assert hold.broken is None


@pytest.fixture
def many_mappings(stress: Stress) -> Iterator[int]:
    """Let a process have more mappings than by default, for a while."""
    path = Path("/proc/sys/vm/max_map_count")
    before = path.read_text()
    n = 240_000 if stress.seconds else 80_000
    path.write_text(str(max(n + 10_000, int(before))))
    try:
        yield n
    finally:
        path.write_text(before)


def test_many_mappings(many_mappings: int) -> None:
    """All of very many mappings are listed and accounted for, the holes too."""
    target = StressTarget(MOSAIC, many_mappings)
    try:
        with Process(target.pid) as process:
            space = process.maps()
            assert len(space) > many_mappings
            written = space.select(anonymous=True, private=True, writable=True)
            assert len(written) >= many_mappings // 2
            assert process.resident(written).total >= many_mappings // 2 * PAGE_SIZE
            for report, asked in (
                (process.cold(written), written),
                (process.pageout(), None),
                (process.advise(written.merged(), Advice.WILLNEED), written),
            ):
                check_account(report, asked, Advice.COLD)
                assert (report.ended, report.not_tried) == ("complete", 0)
            assert space.changed().total == 0
    finally:
        target.close()


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import sys
try:
    from pmadvise import Process
    with Process(%d) as process, process.hold("sigstop"):
        print("works", len(process.maps()) > 0)
except (ImportError, BlockingIOError) as error:  # one that is isolated has no threads
    print(type(error).__name__, error)
''' % int(sys.argv[1])
import pmadvise  # in the main one too
for _ in range(2):
    one = interpreters.create()
    error = interpreters.run_string(one, code)
    assert error is None, error
    interpreters.destroy(one)
"""


def test_subinterpreters(target: StressTarget) -> None:
    """In a subinterpreter the package works, or an error reports that it can't."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SUBINTERPRETER, str(target.pid)],
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = done.stdout.split("\n")[:-1]
    assert (done.returncode, len(lines)) == (0, 2), done.stderr
    expected = ("works True", "ImportError ", "BlockingIOError ")
    assert all(line.startswith(expected) for line in lines), lines
    wait_for_state(target.pid, "RSD")
