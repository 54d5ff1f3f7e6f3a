"""The selftest on hosts, and for users, that lack something."""

from __future__ import annotations

import errno
import os
import signal

import pytest
from helpers.filters import NR_PIDFD_OPEN, NR_PROCESS_MADVISE, refuse_syscall
from helpers.namespaces import mount_proc, unshare_users
from helpers.privileges import (
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    become_nobody,
    become_nobody_with,
)
from helpers.selftest_runs import WITHOUT_RIGHTS, Run, run, run_here, run_with
from helpers.targets import MIB

from pmadvise import Swap, _support, selftest
from pmadvise._support import host
from pmadvise.selftest import command

root = pytest.mark.needs_root
PERMISSION = "CAP_SYS_NICE in the initial user namespace is missing"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            errno.EPERM,
            "a seccomp filter refuses process_madvise: add CAP_SYS_PTRACE",
        ),
        (
            errno.ENOSYS,
            "a seccomp filter hides process_madvise, and the kernel is new enough to "
            "have it: add CAP_SYS_PTRACE",
        ),
    ],
)
def test_seccomp_filter(number: int, words: str) -> None:
    """Under a filter each check of the call names it, and how it is opened."""
    done = run_with(lambda: refuse_syscall(NR_PROCESS_MADVISE, number))
    assert (done.status, done.failed) == (1, {})
    others = {"hold_freezer", "stranger"}  # depend on the user, before the filter
    assert done.passed - others == WITHOUT_RIGHTS - {"syscall"}
    skipped = {n: why for n, why in done.skipped.items() if n not in others}
    assert [n for n, why in skipped.items() if not why.startswith(words)] == []
    assert words in done.verdict


@pytest.mark.parametrize(
    "manager",
    ["docker run --cap-add=SYS_PTRACE", "podman run", "Kubernetes", "systemd"],
)
def test_managers_are_named(manager: str) -> None:
    """The remedy has a line for each manager of containers."""
    filtered = run_with(
        lambda: refuse_syscall(NR_PROCESS_MADVISE, errno.EPERM), "--only", "syscall"
    )
    assert manager in filtered.skipped["syscall"]


def test_seccomp_filter_on_pidfd_open() -> None:
    """A filter that refuses pidfd_open is named, and nothing fails."""
    done = run_with(lambda: refuse_syscall(NR_PIDFD_OPEN, errno.EPERM))
    words = "a seccomp filter refuses pidfd_open"
    assert done.passed == {"host"}
    assert [why for why in done.skipped.values() if words not in why] == []
    assert words in done.verdict


def test_seccomp_filter_that_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that kills callers is found by a child that dies of it."""
    monkeypatch.setattr(
        command,
        "probe",
        lambda pidfd, advice: os.kill(os.getpid(), signal.SIGSYS),
    )
    done = run_here("--only", "host,cold")
    words = "a seccomp filter kills callers of process_madvise"
    assert [why.startswith(words) for why in done.skipped.values()] == [True, True]
    assert (words in done.verdict, done.status) == (True, 1)


@root
def test_as_nobody() -> None:
    """An ordinary user reads what is missing and how to get it, and nothing fails."""
    done = run_with(become_nobody)
    assert (done.status, done.failed) == (1, {})
    assert done.passed >= WITHOUT_RIGHTS - {"hold_ptrace"}
    assert PERMISSION in done.skipped["cold"]
    remedy = "run as root, or add CAP_SYS_NICE (docker run --cap-add=SYS_NICE"
    assert remedy in done.skipped["permission"]


@root
def test_as_a_daemon_that_is_not_root() -> None:
    """CAP_SYS_NICE and CAP_SYS_PTRACE are enough; what else would help is named."""
    done = run_with(lambda: become_nobody_with(CAP_SYS_NICE, CAP_SYS_PTRACE))
    assert (done.status, done.failed) == (0, {})
    assert "uid 65534 can advise another process" in done.verdict
    assert "CAP_DAC_READ_SEARCH is missing" in done.verdict


@root
@pytest.mark.needs_user_namespace
def test_in_a_user_namespace() -> None:
    """In a user namespace no capability helps, and the verdict has that."""
    done = run_with(unshare_users)
    assert (done.status, done.failed) == (1, {})
    assert "this is another user namespace" in done.verdict


def run_in_pid_namespace(*options: str) -> Run:
    """Run the selftest by unshare(1)."""
    program = ("unshare", "--pid", "--fork", *options)
    done = run("--size", "4", program=program)
    if done.errors.startswith("unshare: "):
        pytest.skip(f"a pid namespace is refused: {done.errors}")
    return done


@root
@pytest.mark.needs_program("unshare")
@pytest.mark.needs_mounts
@pytest.mark.needs_pid_namespace
def test_in_a_pid_namespace() -> None:
    """With a /proc of its own a pid namespace lacks nothing."""
    done = run_in_pid_namespace("--mount-proc")
    assert (done.status, done.failed) == (0, {})
    assert [n for n in done.skipped if n in ("hold_ptrace", "hold_sigstop")] == []


@root
@pytest.mark.needs_program("unshare")
@pytest.mark.needs_pid_namespace
def test_in_a_pid_namespace_with_the_outer_proc() -> None:
    """Where /proc shows another pid namespace holds are skipped, with the remedy."""
    done = run_in_pid_namespace()
    holds = {name: why for name, why in done.skipped.items() if "hold" in name}
    assert (done.status, done.failed) == (0, {})
    assert set(holds) == {"hold_ptrace", "hold_freezer", "hold_sigstop"}
    assert "mount -t proc proc /proc" in holds["hold_ptrace"]


@root
@pytest.mark.parametrize("nobody", [False, True], ids=["root", "nobody"])
@pytest.mark.needs_mounts
def test_hidepid(nobody: bool) -> None:
    """With /proc mounted hidepid=2 the selftest finds its own children."""

    def become() -> None:
        if nobody:
            become_nobody()

    def hide() -> None:
        mount_proc("hidepid=2")
        become()

    before, done = run_with(become), run_with(hide)
    assert (done.status, done.failed) == (before.status, {})
    assert set(done.skipped) == set(before.skipped)


@root
@pytest.mark.parametrize(
    ("free", "allowed", "words"),
    [
        (0, None, "turn swap on with swapon(8)"),
        (MIB, None, "turn swap on with swapon(8)"),
        (1 << 30, MIB, "memory.swap.max"),
    ],
)
def test_without_swap(
    monkeypatch: pytest.MonkeyPatch, free: int, allowed: int | None, words: str
) -> None:
    """Without swap, or swap that this cgroup may use, PAGEOUT names what is missing."""
    monkeypatch.setattr(_support, "swap_or_answer", lambda: Swap(free, free, True))
    monkeypatch.setattr(host, "swap_allowed", lambda: allowed)
    result = selftest.run("pageout", 4 * MIB)
    assert (result.verdict, words in result.detail) == ("skip", True)


@root
def test_verdict_without_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without swap a process can be advised, and the verdict has what that lacks."""
    monkeypatch.setattr(_support, "swap_or_answer", lambda: Swap(0, 0, False))
    done = run_here("--only", "host,willneed", "--size", "4")
    assert (done.status, done.failed) == (0, {})
    assert "PAGEOUT moves no anonymous memory" in done.verdict


@root
def test_huge_page_larger_than_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a huge page has 512 MiB the check names the option to pass."""
    monkeypatch.setattr(host, "huge_page_size", lambda: 512 * MIB)
    result = selftest.run("collapse", 64 * MIB)
    assert (result.verdict, "--size 512" in result.detail) == ("skip", True)


@root
def test_no_folder_on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files stay in memory the checks of files name TMPDIR."""
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: None)
    result = selftest.run("pageout_file", 4 * MIB)
    assert (result.verdict, "set TMPDIR" in result.detail) == ("skip", True)


@root
def test_python_that_may_not_be_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that this user may not execute is named."""
    monkeypatch.setattr("sys.executable", "/proc/self/environ")
    result = selftest.run("exec", 4 * MIB)
    assert (result.verdict, "may not execute" in result.detail) == ("skip", True)
