"""What support() says of this host and of targets, beside what the kernel then does."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.targets import (
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    PAGE,
    Target,
    become_nobody,
    drop_capabilities,
    in_child,
    refuse_syscall,
    wait_for_state,
)

import pmadvise
from pmadvise import (
    Advice,
    Process,
    _answers,
    _host,
    _sys,
    pidfd_open,
    residency,
    support,
)
from pmadvise._support_target import TargetSupport
from pmadvise.advice import REMOTE

root = pytest.mark.needs_root
libc = ctypes.CDLL(None, use_errno=True)


def kernel_thread() -> int:
    return next(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/comm")
        if path.read_text() == "kthreadd\n"
    )


def unshare_users() -> None:
    """Enter a user namespace where root is this user."""
    user = os.geteuid()
    assert libc.unshare(0x10000000) == 0  # CLONE_NEWUSER
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")


# The host


def test_facts() -> None:
    """Kernel, machine, page size and swap are those that the system tells."""
    found = support()
    meminfo = residency.sizes(Path("/proc/meminfo").read_bytes())
    assert (found.kernel, found.machine) == (os.uname().release, os.uname().machine)
    assert (found.page_size, found.swap_total) == (mmap.PAGESIZE, meminfo["SwapTotal"])
    assert 0 <= found.swap_free <= found.swap_total
    assert found.target is None


def test_to_dict_is_ready_for_json(target: Target) -> None:
    """All of it survives JSON, advices by the kernel's names."""
    found = support(target.pid).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    names = {"MADV_COLD", "MADV_PAGEOUT", "MADV_WILLNEED", "MADV_COLLAPSE"}
    assert set(found["advice"]) == set(found["target"]["advice"]) == names
    assert found["target"]["pid"] == target.pid
    assert set(found["process_madvise"]) == {
        "ok",
        "refused_by",
        "errno",
        "reason",
        "mend",
    }


def test_it_is_loaded_on_first_use() -> None:
    """A daemon that does not ask does not load it, and the function hides no module."""
    code = (
        "import sys, pmadvise; assert 'pmadvise._support' not in sys.modules; "
        "from pmadvise import support, Support; "
        "assert isinstance(support(), Support) and pmadvise.support is support"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_left_open(target: Target) -> None:
    """Asking opens no file descriptor for longer than it takes."""
    before = os.listdir("/proc/self/fd")
    support(target.pid)
    with Process(target.pid) as process:
        support(process)
    assert os.listdir("/proc/self/fd") == before


def test_nothing_is_advised(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is asked with empty vectors alone."""

    def advised(*arguments: object) -> int:
        raise AssertionError(f"process_madvise{arguments}")

    for name in ("process_madvise", "checked", "checked_range"):
        monkeypatch.setattr(_sys, name, advised)
    assert support(target.pid).target is not None


def test_advices_agree_with_the_kernel(target: Target) -> None:
    """Each remote advice is there just if the kernel does not say EINVAL to it."""
    found = support()
    assert set(found.advice) == REMOTE
    for advice, answer in found.advice.items():
        assert bool(answer) == (_sys.probe(target.pidfd, advice) != -errno.EINVAL)


def test_features_agree_with_the_kernel() -> None:
    """PROCMAP_QUERY, PAGEMAP_SCAN and PIDFD_THREAD are what they answer when used."""
    found = support()
    with open("/proc/self/maps", "rb") as maps:
        assert bool(found.procmap_query) == (_sys.procmap_query(maps.fileno()) == 0)
    if found.pidfd_thread:
        os.close(pidfd_open(os.getpid(), pmadvise.PIDFD_THREAD))
    else:
        with pytest.raises(OSError, match="PIDFD_THREAD"):
            pidfd_open(os.getpid(), pmadvise.PIDFD_THREAD)


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EPERM])
def test_features_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """An old kernel is told from a filter."""

    def scan(*arguments: object) -> object:
        raise OSError(number, "no")

    monkeypatch.setattr(_sys, "procmap_query", lambda fd: -number)
    monkeypatch.setattr(_sys, "pagemap_scan", scan)
    found = support()
    by = "kernel" if number == errno.ENOTTY else "seccomp"
    assert (found.procmap_query.refused_by, found.pagemap_scan.refused_by) == (by, by)
    assert ("6.11" in str(found.procmap_query)) == (by == "kernel")


@root
def test_without_capabilities() -> None:
    """Who lacks CAP_SYS_NICE is told so, of others and not of the own process."""

    def nobody() -> pmadvise.Support:
        become_nobody()
        return support()

    found = in_child(nobody).value
    assert (found.cap_sys_nice, found.cap_sys_ptrace) == (False, False)
    assert (bool(found.others), found.others.refused_by) == (False, "capability")
    assert set(found.advice) == {a for a, known in found.advice.items() if known}
    assert (support().cap_sys_nice, bool(support().others)) == (True, True)


@root
def test_in_a_user_namespace() -> None:
    """There every capability is shown, and CAP_SYS_NICE counts for nothing."""

    def inside() -> pmadvise.Support:
        unshare_users()
        return support()

    found = in_child(inside).value
    assert (found.cap_sys_nice, found.initial_user_namespace) == (True, False)
    assert "this is another user namespace" in found.others.mend


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EACCES])
def test_under_a_filter(number: int) -> None:
    """A filter on process_madvise is named, and how it is opened."""

    def filtered() -> pmadvise.Support:
        refuse_syscall(440, number)
        return support(os.getppid())

    found = in_child(filtered).value
    call = found.process_madvise
    assert (call.refused_by, call.errno, found.seccomp) == ("seccomp", number, "filter")
    assert {str(answer) for answer in found.advice.values()} == {str(call)}
    assert "docker run --cap-add=SYS_PTRACE" in call.mend
    assert found.pidfd_open.ok


def test_under_a_filter_on_pidfd_open(target: Target) -> None:
    """Without pidfd_open a target is refused by the filter, and nothing is raised."""

    def filtered() -> TargetSupport | None:
        refuse_syscall(434, errno.EPERM)
        return support(target.pid).target

    found = in_child(filtered).value
    assert (found.may.refused_by, found.may.errno) == ("seccomp", errno.EPERM)


@pytest.mark.parametrize(
    ("mode", "counted", "by", "words"),
    [
        ("disabled", True, "kernel", "too old"),
        ("filter", True, "seccomp", "a seccomp filter hides process_madvise"),
        ("filter", False, "kernel", "or a seccomp filter hides it"),
        (None, False, "kernel", "or a seccomp filter hides it"),
    ],
)
def test_enosys(
    monkeypatch: pytest.MonkeyPatch,
    mode: str | None,
    counted: bool,
    by: str,
    words: str,
) -> None:
    """ENOSYS is the kernel's where no filter is, and a filter's where it is newer."""
    monkeypatch.setattr(_sys, "probe", lambda pidfd, advice: -errno.ENOSYS)
    state = _host.Filter(mode, counted)
    monkeypatch.setattr(_host.Filter, "of_this_thread", classmethod(lambda cls: state))
    call = support().process_madvise
    assert (call.refused_by, words in str(call)) == (by, True)


def test_kernel_without_advise_syscalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that lacks madvise(2) too was built so."""
    monkeypatch.setattr(_sys, "probe", lambda pidfd, advice: -errno.ENOSYS)
    monkeypatch.setattr(_answers, "_has_madvise", lambda: False)
    state = _host.Filter("disabled", True)
    monkeypatch.setattr(_host.Filter, "of_this_thread", classmethod(lambda cls: state))
    assert "CONFIG_ADVISE_SYSCALLS" in str(support().process_madvise)


@pytest.mark.parametrize(
    ("environment", "files", "name"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}, "kubernetes"),
        ({"container": "podman"}, {}, "podman"),
        ({}, {"/run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({}, {"/proc/self/cgroup": "0::/kubepods.slice/cri-1\n"}, "kubernetes"),
        ({}, {"/proc/self/cgroup": "0::/\n"}, ""),
    ],
)
def test_container(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    files: dict[str, str],
    name: str,
) -> None:
    """Who manages the container is told by what it leaves there."""
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.setattr(_host, "text_of", files.get)
    assert _host.container() == name


def test_swap_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tightest memory.swap.max above this cgroup counts, less what is used."""
    files = {
        "/proc/self/cgroup": "0::/a/b\n",
        "/proc/self/mountinfo": "30 1 0:1 / /cg\\040x rw - cgroup2 cgroup2 rw\n",
        "/cg x/a/b/memory.swap.max": "max\n",
        "/cg x/a/memory.swap.max": "8192\n",
        "/cg x/a/memory.swap.current": "4096\n",
        "/cg x/memory.swap.max": "16384\n",
    }
    monkeypatch.setattr(_host, "text_of", files.get)
    assert _host.swap_allowed() == 4096
    files["/cg x/a/memory.swap.max"] = files["/cg x/memory.swap.max"] = "max"
    assert _host.swap_allowed() is None


# Targets: what is said agrees with what advise() raises


def agrees(about: Callable[[], Any]) -> tuple[TargetSupport, OSError | None]:
    """Return what support() says of a target, and what advise() raises."""
    with Process(about()) as process:
        said = support(process).target
        again = support(about()).target
        assert said is not None
        assert said == again
        raised = None
        try:
            process.advise([(0, PAGE)], Advice.COLD)
        except OSError as error:
            raised = error
    assert said.may.errno == (raised.errno if raised else None)
    return said, raised


def as_restricted(
    give_up: Callable[[], object], pid: int
) -> tuple[TargetSupport, str | None, str]:
    """Return what support() says in a child with fewer rights, and what is raised."""

    def ask() -> tuple[TargetSupport, str, str]:
        give_up()
        said, raised = agrees(lambda: pid)
        return said, type(raised).__name__, str(raised)

    outcome = in_child(ask)
    assert outcome.error is None, outcome.text
    said, kind, text = outcome.value
    return said, kind, text


@root
def test_target_that_may_be_advised(target: Target) -> None:
    """Of a child of root's all advices are allowed, and none raises."""
    said, raised = agrees(lambda: target.pid)
    assert (bool(said.may), raised) == (True, None)
    assert {advice for advice, answer in said.advice.items() if answer} == REMOTE


@root
def test_target_of_another_user(target: Target) -> None:
    """ptrace read access refuses, as it is another user's, who is named."""
    said, kind, _ = as_restricted(become_nobody, target.pid)
    assert (said.may.refused_by, said.may.errno) == ("ptrace", errno.EACCES)
    assert "another user's (uid 0, the caller's is 65534)" in said.may.reason
    assert said.may.mend.startswith("run as its user, or add CAP_SYS_PTRACE")
    assert kind == "PermissionError"


@root
def test_target_without_cap_sys_nice(target: Target) -> None:
    """CAP_SYS_NICE refuses, and nothing else is named."""
    said, kind, text = as_restricted(
        lambda: drop_capabilities(CAP_SYS_NICE), target.pid
    )
    assert (said.may.refused_by, said.may.errno) == ("capability", errno.EPERM)
    assert "CAP_SYS_NICE" in str(said.may)
    assert (kind, "CAP_SYS_NICE" in text) == ("PermissionError", True)


def no_ptrace() -> None:
    drop_capabilities(CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON)


@root
def test_target_that_is_not_dumpable(target: Target) -> None:
    """ptrace read access refuses, and why can be told by whom /proc shows as owner."""
    target.run("[os.setresgid(5, 5, 5), os.setresuid(5, 5, 5)]")  # not dumpable then

    def same_user() -> None:
        no_ptrace()
        os.setgroups([])
        os.setresgid(5, 5, 5)
        os.setresuid(5, 5, 5)

    said, kind, _ = as_restricted(same_user, target.pid)
    assert (said.may.refused_by, said.may.errno) == ("ptrace", errno.EACCES)
    assert "it is not dumpable" in said.may.reason
    assert "PR_SET_DUMPABLE, or add CAP_SYS_PTRACE" in said.may.mend
    assert kind == "PermissionError"


@root
def test_target_of_root_that_is_not_dumpable(target: Target) -> None:
    """With root's own the owner is the same, and what may be is named."""
    target.run("libc.prctl(4, 0, 0, 0, 0)")  # PR_SET_DUMPABLE
    drop = (CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON)

    def fewer() -> None:
        drop_capabilities(*drop)

    said, _, _ = as_restricted(fewer, target.pid)
    assert (said.may.refused_by, said.may.errno) == ("ptrace", errno.EACCES)
    assert "CAP_SYS_PTRACE" in said.may.mend


@root
def test_target_with_more_capabilities(target: Target) -> None:
    """ptrace read access refuses, and what the caller lacks is named."""
    said, _, _ = as_restricted(no_ptrace, target.pid)
    assert (said.may.refused_by, said.may.errno) == ("ptrace", errno.EACCES)
    assert "has capabilities that the caller lacks (CAP_" in said.may.reason


@root
def test_kernel_thread() -> None:
    """It has no memory of its own, and is called what it is."""
    said, raised = agrees(kernel_thread)
    assert (said.may.refused_by, said.may.errno) == ("memory", errno.ESRCH)
    assert "a kernel thread" in said.may.reason
    assert isinstance(raised, ProcessLookupError)


def test_zombie(target: Target) -> None:
    """It has exited, and is called a zombie."""
    target.process.kill()
    wait_for_state(target.pid, "Z")
    said, raised = agrees(lambda: target.pid)
    assert (said.may.errno, "zombie" in said.may.reason) == (errno.ESRCH, True)
    assert isinstance(raised, ProcessLookupError)


def test_reaped(target: Target) -> None:
    """A process that has gone is told to have exited, by handle and by pid."""
    with Process(target.pid) as process:
        target.kill()
        for about in (process, target.pid):
            said = support(about).target
            assert said is not None
            assert (said.may.refused_by, said.may.errno) == ("exited", errno.ESRCH)


@root
def test_hidden_by_hidepid(target: Target) -> None:
    """With hidepid=2 another user's process is not to be seen, and it says so."""

    def hide() -> None:
        assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
        assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC|MS_PRIVATE
        options = ["-t", "proc", "-o", "hidepid=2", "proc", "/proc"]
        subprocess.run(["mount", *options], check=True)
        become_nobody()

    said, kind, _ = as_restricted(hide, target.pid)
    assert (said.may.refused_by, "hidepid" in str(said.may)) == ("proc", True)
    assert kind == "PermissionError"


def test_own_process() -> None:
    """The own process may be advised where the kernel asks no capability for it."""
    said = support(os.getpid()).target
    assert said is not None
    pidfd = pidfd_open(os.getpid())
    assert bool(said.may) == (_sys.probe(pidfd, Advice.COLD) == 0)
    os.close(pidfd)


def test_whatever_has_a_pidfd(target: Target) -> None:
    """A Process, its pid, and any owner of its pidfd are the same target."""

    class Owner:
        def fileno(self) -> int:
            return target.pidfd

    with Process(target.pid) as process:
        found = [support(one).target for one in (target.pid, process, Owner())]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("about", "error"),
    [
        ("1", TypeError),
        (1.0, TypeError),
        (True, TypeError),
        (object(), TypeError),
        (1 << 40, ValueError),
        (0, OSError),
        (-1, OSError),
    ],
)
def test_what_is_no_target(about: Any, error: type[Exception]) -> None:
    """What can't name a process is an error, and no answer."""
    with pytest.raises(error):
        support(about)


def test_file_that_is_no_pidfd(tmp_path: Path) -> None:
    """A file descriptor of another kind is a ValueError."""
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(ValueError, match="pidfd"),
    ):
        support(file)


def test_closed_process(target: Target) -> None:
    """A closed Process is a ValueError, as everywhere."""
    process = Process(target.pid)
    process.close()
    with pytest.raises(ValueError, match="closed"):
        support(process)


def test_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc can't be read, what it would say is None and nothing is raised."""
    monkeypatch.setattr(_host, "text_of", lambda path: None)
    found = support()
    assert (found.seccomp, found.ptrace_scope, found.huge_page_size) == (None,) * 3
    assert (found.swap_total, found.freezers) == (0, ())
    json.dumps(found.to_dict())
