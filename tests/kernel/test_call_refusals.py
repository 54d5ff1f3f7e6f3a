"""The refusals of the kernel, with their reasons."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from helpers import proc
from helpers.children import in_child, value_of_child
from helpers.filters import NR_PROCESS_MADVISE, refuse_syscall
from helpers.privileges import (
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    NOBODY,
    become_nobody,
    become_nobody_with,
    drop_capabilities,
)
from helpers.targets import PAGE, Target
from helpers.waiting import wait_for_state

from pmadvise import (
    Advice,
    calls,
    pidfd_open,
    process_madvise,
    process_madvise_range,
)
from pmadvise._native.process_madvise import probe

root = pytest.mark.needs_root


@pytest.mark.parametrize("flags", [1, -1, 0x8000_0000 - 1])
def test_flags(target: Target, flags: int) -> None:
    """Flags other than 0 are the kernel's EINVAL, and the message says so."""
    with pytest.raises(OSError, match=rf"flags is {flags & 0xFFFFFFFF:#x}") as caught:
        process_madvise_range(target.pidfd, 0, PAGE, Advice.COLD, flags)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("pidfd", [-1, 1 << 20])
def test_bad_pidfd(pidfd: int) -> None:
    """A number that is no open file is EBADF."""
    with pytest.raises(OSError, match="pidfd") as caught:
        process_madvise(pidfd, [], Advice.COLD)
    assert caught.value.errno == errno.EBADF


def test_pidfd_of_another_kind() -> None:
    """A file that is no pidfd is EBADF."""
    with open("/dev/null") as file, pytest.raises(OSError, match="pidfd") as caught:
        process_madvise(file, [], Advice.COLD)
    assert caught.value.errno == errno.EBADF


@root
@pytest.mark.parametrize(
    "advice", [a for a in Advice if not a.remote] + [99, -1], ids=str
)
def test_advice_not_for_others(target: Target, advice: int) -> None:
    """Another process takes four advices; the rest is EINVAL that says so."""
    with pytest.raises(
        OSError, match=r"does not know .* for another process"
    ) as caught:
        process_madvise(target.pidfd, [], advice)
    assert caught.value.errno == errno.EINVAL


def test_own_process_takes_more(own_pidfd: int) -> None:
    """A process may give itself any advice by its pidfd, without a capability."""
    if not own_process_takes_dontneed():
        pytest.skip("kernel: it takes the remote advices alone; Linux 6.13 takes more")
    with mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[0] = 1
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        process_madvise_range(own_pidfd, address, PAGE, Advice.DONTNEED)
        assert memory[0] == 0


def own_process_takes_dontneed() -> bool:
    """Return whether the kernel does: an empty vector asks it."""
    pidfd = pidfd_open(os.getpid())
    try:
        return probe(pidfd, Advice.DONTNEED) == 0
    finally:
        os.close(pidfd)


def test_zombie(target: Target) -> None:
    """A zombie has no memory: ProcessLookupError that says so."""
    target.popen.kill()
    wait_for_state(target.pid, "Z")
    with pytest.raises(ProcessLookupError, match="zombie"):
        process_madvise(target.pidfd, [], Advice.COLD)


def test_reaped(target: Target) -> None:
    """The pidfd of a reaped process is ProcessLookupError for ever."""
    target.kill()
    with pytest.raises(ProcessLookupError, match="has exited"):
        process_madvise_range(target.pidfd, 0, PAGE, Advice.COLD)


@root
def test_kernel_thread() -> None:
    """A kernel thread has no memory: ProcessLookupError that says so."""
    pidfd = pidfd_open(proc.kthreadd())
    with pytest.raises(ProcessLookupError, match="kernel thread"):
        process_madvise(pidfd, [], Advice.COLD)
    os.close(pidfd)


@root
def test_stranger(target: Target) -> None:
    """Another user's process is EACCES, and the message says ptrace read access."""

    def advise() -> None:
        become_nobody()
        process_madvise(target.pidfd, [], Advice.COLD)

    outcome = in_child(advise)
    assert (outcome.error, outcome.errno) == ("PermissionError", errno.EACCES)
    assert "ptrace read access" in outcome.text


@root
def test_same_user_without_cap_sys_nice(target: Target) -> None:
    """Without CAP_SYS_NICE it is EPERM, and the message says CAP_SYS_NICE."""

    def advise() -> None:
        drop_capabilities(CAP_SYS_NICE)
        process_madvise(target.pidfd, [], Advice.COLD)

    outcome = in_child(advise)
    assert (outcome.error, outcome.errno) == ("PermissionError", errno.EPERM)
    assert "CAP_SYS_NICE" in outcome.text


@root
def test_fewer_capabilities(target: Target) -> None:
    """A target that may do more than the caller is EACCES, and the message says so."""

    def advise() -> None:
        drop_capabilities(CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON)
        process_madvise(target.pidfd, [], Advice.COLD)

    outcome = in_child(advise)
    assert outcome.errno == errno.EACCES
    assert "capabilities that the caller lacks" in outcome.text


@root
def test_not_dumpable(target: Target) -> None:
    """A target of the same user that is not dumpable is EACCES that says so."""
    target.run(f"become({NOBODY})")
    target.run("prctl(PR_SET_DUMPABLE, 0)")

    def advise() -> None:
        become_nobody_with(CAP_SYS_NICE)
        process_madvise(target.pidfd, [], Advice.COLD)

    outcome = in_child(advise)
    assert outcome.errno == errno.EACCES
    assert "not dumpable" in outcome.text


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EPERM, "seccomp filter"), (errno.ENOSYS, "seccomp filter hides")],
)
def test_seccomp_filter(own_pidfd: int, number: int, words: str) -> None:
    """A seccomp filter is distinguished from a missing capability."""

    def advise() -> None:
        refuse_syscall(NR_PROCESS_MADVISE, number)
        process_madvise(own_pidfd, [], Advice.COLD)

    outcome = in_child(advise)
    assert (outcome.errno, words in outcome.text) == (number, True)


def test_filter_that_returns_nothing(own_pidfd: int) -> None:
    """Where a filter returns 0 and the kernel is not reached, 0 bytes are advised."""

    def advise() -> tuple[int, int]:
        refuse_syscall(NR_PROCESS_MADVISE, 0)
        return (
            process_madvise_range(own_pidfd, PAGE, PAGE, Advice.COLD),
            process_madvise(own_pidfd, [(PAGE, PAGE)], Advice.COLD),
        )

    assert value_of_child(advise) == (0, 0)


@pytest.mark.parametrize("number", sorted(errno.errorcode))
@pytest.mark.parametrize(
    ("checked", "call", "arguments"),
    [
        ("process_madvise_checked", process_madvise, (-1, [])),
        ("process_madvise_range_checked", process_madvise_range, (-1, 0, PAGE)),
    ],
    ids=["vector", "range"],
)
def test_every_errno_becomes_an_oserror(
    monkeypatch: pytest.MonkeyPatch,
    checked: str,
    call: Callable[..., int],
    arguments: tuple[Any, ...],
    number: int,
) -> None:
    """Whatever errno the kernel returns is in the OSError, with the call's name."""
    monkeypatch.setattr(calls, checked, lambda *_: -number)
    with pytest.raises(OSError, match=r"process_madvise\(MADV_PAGEOUT\)") as caught:
        call(*arguments, Advice.PAGEOUT)
    assert caught.value.errno == number
    assert type(caught.value) is type(OSError(number, ""))


WITHOUT_DESCRIPTORS = """
import os, resource, pmadvise
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        os.dup(0)
except OSError:
    pass
try:
    {call}
except OSError as error:
    os.write(1, str(error.errno).encode())
"""


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("pmadvise.pidfd_open(os.getpid())", errno.EMFILE),
        ("pmadvise.process_madvise(1000, [(0, 4096)], 20)", errno.EBADF),
        ("pmadvise.process_madvise_range(1000, 0, 4096, 20)", errno.EBADF),
    ],
)
def test_no_descriptor_is_free(call: str, number: int) -> None:
    """The errno is the kernel's even where the reasons can't be loaded any more."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS.format(call=call)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    assert int(done.stdout) == number
