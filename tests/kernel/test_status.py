"""The cheap look: status(), swap(), and the working set."""

from __future__ import annotations

import errno
import os
import resource
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.children import in_child
from helpers.privileges import (
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    become_nobody,
    become_nobody_with,
)
from helpers.targets import MIB, PAGE, Target
from helpers.waiting import wait_for_state

from pmadvise import Process, swap

CLOCK_TICK = 1 / os.sysconf("SC_CLK_TCK")


def test_status_is_what_proc_has(target: Target, process: Process) -> None:
    """Sizes, threads and state of a process at rest are those of /proc/PID/status."""
    target.filled(8 * MIB)
    wait_for_state(target.pid, "S")
    found = process.status()
    assert {
        "VmRSS": found.rss,
        "RssAnon": found.anonymous,
        "RssFile": found.file,
        "RssShmem": found.shmem,
        "VmSwap": found.swap,
        "VmLck": found.locked,
        "Threads": found.threads,
    } == {
        name: target.status(name)
        for name in (
            *("VmRSS", "RssAnon", "RssFile", "RssShmem", "VmSwap", "VmLck"),
            "Threads",
        )
    }
    assert found.rss == found.anonymous + found.file + found.shmem
    assert found.state == "S"


NAMES = [b"", b"a b) R (c", b"(((", b"\xff\n\t", b"fifteen-or-more"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_name_uid_and_parent(target: Target, process: Process, name: bytes) -> None:
    """The name is the process's own choice, whatever is in it."""
    target.run(f"open('/proc/self/comm', 'wb').write({name!r} or b'\\0') and None")
    status = process.status()
    assert os.fsencode(status.name) == name
    assert (status.uid, status.parent) == (os.geteuid(), os.getpid())


@pytest.mark.needs_root
def test_uid_is_the_effective_one(target: Target, process: Process) -> None:
    """The user whose rights the process has, and no other of its users."""
    target.run("os.setresuid(1, 2, 3)")
    assert process.status().uid == 2


def test_cgroup_is_what_proc_has(process: Process) -> None:
    """The path is that of the memory controller's hierarchy."""
    lines = Path(f"/proc/{process.pid}/cgroup").read_text(encoding="utf-8").split("\n")
    paths = dict(line.split(":", 2)[1:] for line in lines if line)
    by_controller = {
        name: path for names, path in paths.items() for name in names.split(",")
    }
    assert process.cgroup() == by_controller.get("memory", by_controller.get(""))


def test_cgroup_of_one_that_has_gone(target: Target, process: Process) -> None:
    """A process that was reaped has no cgroup."""
    target.kill()
    with pytest.raises(ProcessLookupError):
        process.cgroup()


@pytest.mark.needs_root
@pytest.mark.parametrize("n_groups", [1_000, 1_450, 10_000, 65_536])
def test_status_behind_many_groups(
    target: Target, process: Process, n_groups: int
) -> None:
    """The line of a process's groups, however long, hides nothing behind it."""
    target.run(f"os.setgroups(range(100_000, {100_000 + n_groups}))")
    found = process.status()
    assert found.rss == target.status("VmRSS") > 0
    assert found.anonymous == target.status("RssAnon")


def test_cpu_grows_with_work(target: Target, process: Process) -> None:
    """The CPU time counts user and system time of all threads, in seconds."""
    before = process.status().cpu
    target.run("[0 for _ in iter(lambda: time.process_time() > 0.5, True)] and None")
    assert process.status().cpu - before > 0.1


def test_started(process: Process) -> None:
    """The start counts seconds since boot, and never changes."""
    first = process.status().started
    assert 0 < first <= time.clock_gettime(time.CLOCK_BOOTTIME) + CLOCK_TICK
    assert process.status().started == first


def test_locked_is_counted(target: Target, process: Process) -> None:
    """Locked memory is in bytes."""
    address = target.filled(16 * PAGE)
    before = process.status().locked
    target.run(f"lock({address}, {16 * PAGE})")
    assert process.status().locked - before == 16 * PAGE


def test_zombie_and_gone(target: Target) -> None:
    """A zombie has a status of no memory; once reaped there is none."""
    with Process(target.pid) as process:
        target.popen.kill()
        os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
        found = process.status()
        assert (found.state, found.rss, found.swap) == ("Z", 0, 0)
        target.kill()
        with pytest.raises(ProcessLookupError, match="has exited"):
            process.status()


@pytest.mark.needs_root
def test_no_permission_is_needed(target: Target) -> None:
    """Another user's process may be looked at."""

    def look() -> int:
        become_nobody()
        with Process(target.pid) as process:
            return process.status().rss

    assert in_child(look).value > 0


@pytest.mark.parametrize(
    "name",
    [b"a) S 1 2 3 4", b"\xff\xfe", b"x\nVmRSS: 9 kB", b"\r\v\f\x1c\x85", b"))))"],
)
def test_a_name_changes_nothing(target: Target, process: Process, name: bytes) -> None:
    """Whatever a process calls itself, its status is the same."""
    wait_for_state(target.pid, "S")
    before = process.status()
    target.run(f"open('/proc/self/comm', 'wb').write({name!r})")
    wait_for_state(target.pid, "S")
    after = process.status()
    assert (after.state, after.threads, after.started) == (
        before.state,
        before.threads,
        before.started,
    )
    assert after.rss >= before.rss // 2


def test_900_handles(target: Target) -> None:
    """900 handles fit under a limit of 2,048 descriptors, in use too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def open_all() -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
        with ExitStack() as stack:
            handles = [stack.enter_context(Process(target.pid)) for _ in range(900)]
            return sum(handle.maps() is not None for handle in handles)

    assert in_child(open_all).value == 900


def test_swap_of_this_host() -> None:
    """The sums are those of /proc/meminfo, but for what moves meanwhile."""
    found = swap()
    text = Path("/proc/meminfo").read_text()
    total = next(line for line in text.split("\n") if line.startswith("SwapTotal:"))
    assert found.total == int(total.split()[1]) * 1024


def test_cgroup_whose_path_is_cut(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that the kernel has cut names another cgroup: it is an error."""
    text = b"0::/" + b"d" * 4094 + b"\n"
    monkeypatch.setattr(type(process._identity), "read", lambda *_: text)
    with pytest.raises(OSError, match="longer than the kernel shows") as caught:
        process.cgroup()
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.fixture
def touching(target: Target) -> int:
    """A target that touches 12 of 40 MiB again and again, in small pages."""
    address = target.map(40 * MIB)
    target.run(f"fill_small_pages({address}, {40 * MIB})")
    target.run(f"forever(lambda: ctypes.memset({address}, 1, {12 * MIB}))")
    return 12 * MIB


@pytest.mark.needs_root
def test_working_set(process: Process, touching: int) -> None:
    """It is the memory that was touched, not what is in memory."""
    found = process.working_set(1)
    # clear_refs leaves the TLB as it is, whose pages are not marked again: a few.
    assert touching - MIB <= found.referenced < touching + 16 * MIB
    assert found.resident >= 40 * MIB
    assert found.coarse is False


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("1", TypeError),
    ],
)
def test_wrong_seconds(
    process: Process, seconds: float, error: type[Exception]
) -> None:
    """A time that is none is refused by its value."""
    with pytest.raises(error, match=str(seconds)):
        process.working_set(seconds)


@pytest.mark.needs_root
@pytest.mark.parametrize("seconds", [1e8, 10**400])
def test_working_set_for_ages(target: Target, seconds: float) -> None:
    """However long it is to watch, the end of the process ends it."""
    process = Process(target.pid)
    target.run_detached("os.kill(os.getpid(), 9)")
    with process, pytest.raises(ProcessLookupError):
        process.working_set(seconds)


@pytest.mark.needs_root
def test_working_set_without_the_right(process: Process) -> None:
    """Another user's process needs CAP_DAC_OVERRIDE, and the error names it."""

    def measure() -> None:
        become_nobody_with(CAP_SYS_PTRACE, CAP_SYS_NICE)
        process.working_set(0)

    outcome = in_child(measure)
    assert (outcome.error, outcome.errno) == ("PermissionError", errno.EACCES)
    assert "CAP_DAC_OVERRIDE is missing" in outcome.text
