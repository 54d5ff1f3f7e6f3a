"""The freezer's watchdog, which thaws the cgroup of a caller that was killed."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.children import in_child, value_of_child
from helpers.filters import refuse_syscall
from helpers.hold_targets import Cgroup, Running
from helpers.namespaces import mount_over
from helpers.waiting import until

from pmadvise.hold import watchdog

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2]


@pytest.fixture
def frozen_target(start: Callable[..., Running], cgroup: Cgroup) -> Running:
    """A process in a cgroup of its own."""
    running = start()
    cgroup.add(running.pid)
    return running


def children() -> list[int]:
    """Return the children of this process, of whichever thread."""
    return [
        int(pid)
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text().split()
    ]


def watchdogs() -> list[int]:
    """Return the watchdogs of this process."""
    return [
        pid
        for pid in children()
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sh\0-c\0")
    ]


def test_killed_in_the_block(frozen_target: Running, cgroup: Cgroup) -> None:
    """A watchdog that is killed in the block: the hold is at risk, as `broken` has."""
    with frozen_target.hold("freezer") as held:
        (pid,) = watchdogs()
        os.kill(pid, signal.SIGKILL)
        until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
        assert cgroup.frozen()
    assert held.broken == (
        "the watchdog of the freezer was killed, which put the hold at risk"
    )
    frozen_target.goes_on()


def test_killed_and_joined(frozen_target: Running) -> None:
    """A hold that joins one without a watchdog gets a new one."""
    with frozen_target.hold("freezer") as outer:
        (first,) = watchdogs()
        os.kill(first, signal.SIGKILL)
        until(lambda: Path(f"/proc/{first}/stat").read_text().split()[2] == "Z")
        with frozen_target.hold("freezer") as inner:
            assert frozen_target.is_held()
            assert watchdogs() not in ([], [first])
    assert outer.broken
    assert inner.broken is None
    frozen_target.goes_on()


def test_stopped_watchdog(
    frozen_target: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watchdog that was stopped does not keep the hold from ending."""
    monkeypatch.setattr(watchdog, "_DISMISSAL", 0.05)
    with frozen_target.hold("freezer"):
        (pid,) = watchdogs()
        os.kill(pid, signal.SIGSTOP)
    assert watchdogs() == []
    frozen_target.goes_on()


def program(tmp_path: Path, text: str) -> str:
    """Write a program that may stand for /bin/sh."""
    path = tmp_path / "sh"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_shell_that_complains(
    frozen_target: Running,
    cgroup: Cgroup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the shell writes to its standard error is not its answer."""
    script = '#!/bin/sh\necho oh >&2\nexec /bin/sh "$@"\n'
    monkeypatch.setattr(watchdog, "_SHELL", program(tmp_path, script))
    with frozen_target.hold("freezer", 600) as held:
        assert cgroup.frozen()
    assert held.broken is None
    frozen_target.goes_on()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/false\n", "ended at once (exit status 1)"),
        ("#!/bin/cat\n", "ended at once (exit status 1)"),
        ("#!/bin/echo\n", "does not work as a shell"),
        (
            f"#!{sys.executable}\nimport sys; sys.stdout.write(repr(sys.argv))\n",
            "shell",
        ),
        ("#!/nothing/there\n", "can't be started"),
        ("#!/bin/sh\nkill -9 $$\n", "killed by signal 9"),
        ("#!/bin/sh\nexec sleep 600\n", "did not answer"),
    ],
)
def test_other_program(
    frozen_target: Running,
    cgroup: Cgroup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    reason: str,
) -> None:
    """Where /bin/sh is no shell nothing is frozen, and the reason is in the error."""
    monkeypatch.setattr(watchdog, "_SHELL", program(tmp_path, text))
    monkeypatch.setattr(watchdog, "_DISMISSAL", 0.05)
    wait = 0.3 if "sleep" in text else 600
    with pytest.raises((PermissionError, TimeoutError)) as caught:
        frozen_target.hold("freezer", wait).__enter__()
    if wait == 600:
        assert isinstance(caught.value, PermissionError)
        assert reason in str(caught.value)
    assert not cgroup.frozen()
    assert watchdogs() == []


def test_other_program_and_auto(
    frozen_target: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /bin/sh does not run, "auto" goes on to the next method."""
    monkeypatch.setattr(watchdog, "_SHELL", program(tmp_path, "#!/bin/false\n"))
    monkeypatch.setattr("pmadvise.hold.ptrace.ptrace_refused", lambda: errno.EPERM)
    with frozen_target.hold("auto", 600) as held:
        assert held.method == "sigstop"
    assert "nothing could thaw the cgroup" in held.refused["freezer"]
    frozen_target.goes_on()


def test_no_working_directory(
    frozen_target: Running, cgroup: Cgroup, tmp_path: Path
) -> None:
    """A deleted working directory, which a shell complains of, is no matter."""
    directory = tmp_path / "here"
    directory.mkdir()

    def from_nowhere() -> bool:
        os.chdir(directory)
        directory.rmdir()
        with frozen_target.hold("freezer", 600):
            return cgroup.frozen()

    assert value_of_child(from_nowhere) is True
    frozen_target.goes_on()


def test_no_stack(frozen_target: Running, cgroup: Cgroup) -> None:
    """Where no program can run for want of a stack, nothing is frozen."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (0, resource.RLIM_INFINITY))
        frozen_target.hold("freezer", 600).__enter__()

    outcome = in_child(limited)
    assert outcome.error == "PermissionError"
    assert "nothing could thaw the cgroup" in outcome.text
    assert not cgroup.frozen()


_NR_EXECVE = {"x86_64": 59, "aarch64": 221, "riscv64": 221}.get(platform.machine(), 11)


def test_filter(frozen_target: Running, cgroup: Cgroup) -> None:
    """Where a filter refuses to start programs, nothing is frozen."""

    def filtered() -> None:
        refuse_syscall(_NR_EXECVE, errno.EPERM)
        frozen_target.hold("freezer", 600).__enter__()

    outcome = in_child(filtered)
    assert outcome.error == "PermissionError"
    assert "/bin/sh can't be started" in outcome.text
    assert not cgroup.frozen()


@pytest.mark.needs_mounts
def test_read_only_cgroup(frozen_target: Running, cgroup: Cgroup) -> None:
    """A read-only cgroup hierarchy: PermissionError, with the reason."""

    def confined() -> None:
        mount_over(cgroup.path.parent, read_only=True)
        frozen_target.hold("freezer", 600).__enter__()

    outcome = in_child(confined)
    assert outcome.error == "PermissionError"
    assert "Read-only file system" in outcome.text
    frozen_target.goes_on()


def test_without_setsid(
    frozen_target: Running, cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where posix_spawn has no setsid, a process group of its own will do."""
    spawn = os.posix_spawn

    def without_setsid(*args: object, **kwargs: object) -> int:
        if "setsid" in kwargs:
            raise NotImplementedError
        return spawn(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "posix_spawn", without_setsid)
    with frozen_target.hold("freezer"):
        assert cgroup.frozen()
    frozen_target.goes_on()


@contextlib.contextmanager
def low_descriptors_closed() -> Iterator[None]:
    """Close stdin, stdout and stderr for a while."""
    saved = [os.dup(fd) for fd in range(3)]
    os.closerange(0, 3)
    try:
        yield
    finally:
        for fd, copy in enumerate(saved):
            os.dup2(copy, fd)
            os.close(copy)


def test_without_standard_files(frozen_target: Running) -> None:
    """A caller without stdin, stdout and stderr gets a watchdog too."""
    with low_descriptors_closed(), frozen_target.hold("freezer") as held:
        frozen = frozen_target.is_held()
    assert (frozen, held.broken) == (True, None)
    frozen_target.goes_on()
