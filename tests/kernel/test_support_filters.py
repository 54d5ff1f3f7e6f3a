"""What support() answers under a seccomp filter, and where calls are missing."""

from __future__ import annotations

import errno
import os

import pytest
from helpers.answers import Asked, ask
from helpers.children import value_of_child
from helpers.filters import NR_PIDFD_OPEN, NR_PROCESS_MADVISE, refuse_syscall
from helpers.targets import Target

import pmadvise
from pmadvise import Support, TargetSupport, support
from pmadvise import _reasons as reasons
from pmadvise._proc.rights import Seccomp

FILTERED = [errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EINVAL, errno.EBUSY]


@pytest.mark.parametrize("number", FILTERED)
def test_filter_on_process_madvise(number: int) -> None:
    """A filter on process_madvise is named, and how it is opened."""

    def filtered() -> Support:
        refuse_syscall(NR_PROCESS_MADVISE, number)
        return support(os.getppid())

    found = value_of_child(filtered)
    call = found.process_madvise
    assert (call.refused_by, call.errno, found.seccomp) == ("seccomp", number, "filter")
    assert {str(answer) for answer in found.advice.values()} == {str(call)}
    assert "docker run --cap-add=SYS_PTRACE" in call.remedy
    assert found.pidfd_open.ok


@pytest.mark.parametrize("number", FILTERED)
def test_exception_and_answer_under_a_filter(target: Target, number: int) -> None:
    """An errno of a filter reads the same in each exception and in support()."""

    def filtered() -> Asked:
        refuse_syscall(NR_PROCESS_MADVISE, number)
        return ask(target.pid)

    asked = value_of_child(filtered)
    assert asked.target.may.refused_by == "seccomp"
    assert [name for name, one in asked.refused.items() if not one.text] == []
    assert {
        name: refusal.agrees_with(asked.target.may)
        for name, refusal in asked.refused.items()
    } == {"process_madvise": True, "check": True, "advise": True}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EACCES])
def test_filter_on_pidfd_open(target: Target, number: int) -> None:
    """A filter that refuses pidfd_open is the answer, and reads as the exception."""

    def filtered() -> tuple[TargetSupport | None, str]:
        refuse_syscall(NR_PIDFD_OPEN, number)
        seen = support(target.pid).target
        try:
            pmadvise.pidfd_open(target.pid)
        except OSError as error:
            return seen, str(error)
        return seen, ""

    seen, text = value_of_child(filtered)
    assert (seen.may.refused_by, seen.may.errno) == ("seccomp", number)
    assert str(seen.may) in text


@pytest.mark.parametrize(
    ("seccomp", "by", "words"),
    [
        (Seccomp("disabled", True), "kernel", "too old"),
        (Seccomp("filter", True), "seccomp", "a seccomp filter hides process_madvise"),
        (Seccomp("filter", False), "kernel", "or a seccomp filter hides it"),
        (Seccomp(None, False), "kernel", "or a seccomp filter hides it"),
    ],
)
def test_enosys(
    monkeypatch: pytest.MonkeyPatch, seccomp: Seccomp, by: str, words: str
) -> None:
    """ENOSYS is the kernel's where no filter is, and a filter's where it is newer."""
    _lack_the_call(monkeypatch, seccomp)
    call = support().process_madvise
    assert (call.refused_by, words in str(call)) == (by, True)


def test_kernel_without_advise_syscalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that lacks madvise(2) too was built without both."""
    _lack_the_call(monkeypatch, Seccomp("disabled", True))
    monkeypatch.setattr(reasons, "_has_madvise", lambda: False)
    assert "CONFIG_ADVISE_SYSCALLS" in str(support().process_madvise)


def test_other_call_by_that_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """An errno that the call never has, without a filter, is a fault of the build."""
    _lack_the_call(monkeypatch, Seccomp("disabled", True), errno.EFAULT)
    assert support().process_madvise.refused_by == "build"


def _lack_the_call(
    monkeypatch: pytest.MonkeyPatch, seccomp: Seccomp, number: int = errno.ENOSYS
) -> None:
    monkeypatch.setattr(reasons, "probe", lambda pidfd, advice: -number)
    monkeypatch.setattr(Seccomp, "of_this_thread", classmethod(lambda cls: seccomp))
