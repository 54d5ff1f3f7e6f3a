"""Checks of the host: its facts, system calls and permission, and readers of /proc."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os

import pmadvise
from pmadvise import Advice, Ranges
from pmadvise._native.descriptor import pidfd_open
from pmadvise._native.process_madvise import probe
from pmadvise.advice import REMOTE
from pmadvise.selftest.child import Child
from pmadvise.selftest.libc import libc
from pmadvise.selftest.requirements import SMALL, TOLERANCE, Skip, mib, summary

# include/uapi/asm-generic/mman-common.h and unistd.h, a second time: a wrong number in
# pmadvise differs from these.
_NUMBERS = {"WILLNEED": 3, "COLD": 20, "PAGEOUT": 21, "COLLAPSE": 25}
_NR_PROCESS_MADVISE = 440


@summary("Describe this host, and the rights of this process.")
def check_host(_size: int) -> str:
    support = pmadvise.support()
    json.dumps(support.to_dict(), allow_nan=False)
    if support.page_size != mmap.PAGESIZE or support.page_size & (
        support.page_size - 1
    ):
        raise AssertionError(
            f"a page has {mmap.PAGESIZE} bytes, not {support.page_size}"
        )
    missing = [
        name
        for name, is_held in (
            ("CAP_SYS_NICE", support.cap_sys_nice),
            ("CAP_SYS_PTRACE", support.cap_sys_ptrace),
        )
        if not is_held
    ]
    words = [
        f"Linux {support.kernel} {support.machine}",
        f"{support.page_size}-byte pages",
        _swap(support),
        f"uid {os.geteuid()}" + (f" without {' and '.join(missing)}" * bool(missing)),
    ]
    if support.nice:
        words.append(f"nice {support.nice}")
    if support.memory_limit is not None:
        words.append(f"in a memory cgroup of {mib(support.memory_limit)}")
    if support.initial_user_namespace is False:
        words.append("in a user namespace")
    if support.initial_pid_namespace is False:
        words.append("in a pid namespace")
    if support.container:
        words.append(f"in a container ({support.container})")
    if support.seccomp == "filter":
        words.append("under a seccomp filter")
    return ", ".join(words)


def _swap(support: pmadvise.Support) -> str:
    if support.swap_free is None:
        return "swap unknown"
    return f"{mib(support.swap_free)} of swap free" if support.swap_total else "no swap"


@summary("Make the system calls independently of pmadvise, and compare.")
def check_syscall(_size: int) -> str:
    support = pmadvise.support()
    _compare_pidfd_open()
    with Child() as child:
        pidfd = child.process.fileno()
        for fd, advice in (
            (-1, 20),
            *((pidfd, number) for number in _NUMBERS.values()),
        ):
            theirs, ours = _independent_probe(fd, advice), probe(fd, advice)
            if theirs not in (None, ours):
                raise AssertionError(
                    f"process_madvise({fd}, NULL, 0, {advice}, 0) returns {ours}, and "
                    f"{theirs} when called without pmadvise: the number of the system "
                    "call is wrong in this build"
                )
        if {advice.name: int(advice) for advice in REMOTE} != _NUMBERS:
            raise AssertionError(f"the numbers of advices are wrong: {REMOTE}")
    for answer in (support.pidfd_open, support.process_madvise):
        if not answer:
            if answer.refused_by == "build":
                raise AssertionError(str(answer))
            raise Skip(str(answer))
    known = [advice.name for advice, answer in support.advice.items() if answer]
    return f"process_madvise is there, for other processes {', '.join(known)}"


def _compare_pidfd_open() -> None:
    """Raise unless pidfd_open() does what Python's own does."""
    ours = pidfd_open(os.getpid())
    try:
        theirs = os.pidfd_open(os.getpid())
    except AttributeError:  # Python was built with older headers
        theirs = -1
    except OSError as error:
        theirs = -(error.errno or 0)
        if ours == theirs:
            return
    try:
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in (ours, theirs) if fd >= 0]
        if ours < 0 <= theirs or any("pidfd" not in name for name in names):
            raise AssertionError(
                f"pidfd_open() returns {ours}, and Python's own {theirs}, of {names}: "
                "the number of the system call is wrong in this build"
            )
    finally:
        for fd in (ours, theirs):
            if fd >= 0:
                os.close(fd)


def _independent_probe(pidfd: int, advice: int) -> int | None:
    """Call process_madvise(2) by libc; None where its number is not known here."""
    arguments = [
        ctypes.c_int(pidfd),
        ctypes.c_void_p(None),
        ctypes.c_size_t(0),
        ctypes.c_int(advice),
        ctypes.c_uint(0),
    ]
    machine, pointer = os.uname().machine, ctypes.sizeof(ctypes.c_void_p)
    if hasattr(libc, "process_madvise"):  # glibc 2.36
        result = libc.process_madvise(*arguments)
    elif machine.startswith(("alpha", "mips", "ia64")) or (
        machine == "x86_64" and pointer == ctypes.sizeof(ctypes.c_int)  # perhaps x32
    ):
        return None
    else:
        result = libc.syscall(ctypes.c_long(_NR_PROCESS_MADVISE), *arguments)
    return -ctypes.get_errno() if result < 0 else int(result)


@summary("Ask whether a child may be advised, and compare with support().")
def check_permission(_size: int) -> str:
    with Child() as child:
        child.require_permission()
    return f"uid {os.geteuid()} may advise its child"


@summary("Let a process advise its own memory with COLD.")
def check_own(_size: int) -> str:
    support = pmadvise.support()
    if not support.process_madvise:
        raise Skip(str(support.process_madvise))
    with Child() as child:
        address = child.map(SMALL)
        try:
            advised = child.ask_int("advise_self", address, SMALL, Advice.COLD)
        except PermissionError as error:  # up to Linux 6.11
            if error.errno != errno.EPERM or support.other_processes:
                raise
            raise Skip(str(support.other_processes)) from None
        left = child.smaps(address, SMALL, "Referenced")
        if advised != SMALL or left > TOLERANCE:
            raise AssertionError(f"{advised} of {SMALL} advised, Referenced {left}")
        child.require_intact(address, SMALL)
    return "a process may advise itself" + (
        ", with every advice" if support.own_process else ""
    )


@summary("Find a child's mapping, and notice that half of it goes.")
def check_maps(_size: int) -> str:
    with Child() as child:
        address = child.map(SMALL)
        space = child.process.maps()
        mappings = [vma for vma in space if vma.start == address]
        if not (
            len(mappings) == 1
            and (mappings[0].length, mappings[0].perms) == (SMALL, "rw-p")
            and (address, SMALL) in space.select(anonymous=True, private=True)
        ):
            raise AssertionError(f"{address:#x} is not found as mapped: {mappings}")
        child.ask("unmap", address, SMALL // 2)
        changed = space.changed() & Ranges([(address, SMALL)])
        if changed != Ranges([(address, SMALL // 2)]):
            raise AssertionError(f"half of it was unmapped, and changed() is {changed}")
    fast = pmadvise.support().procmap_query
    return f"{len(space)} mappings read" + ("" if fast else f"; {fast}")


@summary("Find which pages of a child are in memory.")
def check_resident(_size: int) -> str:
    with Child() as child:
        address = child.map(SMALL, 0)
        child.fill_small(address, SMALL // 2)  # a huge page would be more
        resident = child.process.resident(Ranges([(address, SMALL)]))
        if resident != Ranges([(address, SMALL // 2)]):
            raise AssertionError(
                f"half of it was touched, and resident() is {resident}"
            )
        memory, status = child.process.memory(), child.process.status()
        if min(memory.rss, status.rss) < SMALL // 2:
            raise AssertionError(f"memory() is {memory}, and status() {status}")
    fast = pmadvise.support().pagemap_scan
    return f"{mib(SMALL // 2)} of {mib(SMALL)} in memory" + (
        "" if fast else f"; {fast}"
    )
