"""The system calls on the real kernel, with targets as they really are."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers.targets import (
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    LRU_BATCH,
    MIB,
    PAGE,
    Target,
    become_nobody,
    drop_capabilities,
    in_child,
    refuse_syscall,
    send,
    wait_for_state,
)

import pmadvise
from pmadvise import (
    IOV_MAX,
    MAX_RW_COUNT,
    PIDFD_NONBLOCK,
    PIDFD_THREAD,
    Advice,
    Ranges,
    calls,
    pidfd_open,
    process_madvise,
    process_madvise_range,
)

root = pytest.mark.needs_root


class Owner:
    """What owns a pidfd."""

    def __init__(self, pidfd: int) -> None:
        self.pidfd = pidfd

    def fileno(self) -> int:
        return self.pidfd


@pytest.fixture
def own_pidfd() -> Iterator[int]:
    """The pidfd of this process."""
    pidfd = pidfd_open(os.getpid())
    yield pidfd
    os.close(pidfd)


# pidfd_open(2)


def test_pidfd_is_close_on_exec(target: Target) -> None:
    """The pidfd does not leak into what the caller executes."""
    assert os.get_inheritable(target.pidfd) is False


def test_pidfd_is_readable_once_the_process_has_ended(target: Target) -> None:
    """A pidfd can be polled for the end of the process."""
    poll = select.poll()
    poll.register(target.pidfd, select.POLLIN)
    assert poll.poll(0) == []
    target.process.kill()
    assert poll.poll() == [(target.pidfd, select.POLLIN)]


def test_pidfd_nonblock(target: Target) -> None:
    """PIDFD_NONBLOCK makes the pidfd non-blocking."""
    pidfd = pidfd_open(target.pid, PIDFD_NONBLOCK)
    assert os.get_blocking(pidfd) is False
    os.close(pidfd)


def test_pidfd_thread(target: Target) -> None:
    """PIDFD_THREAD opens a thread that leads no process."""
    tid = target.run(
        "(lambda e: (threading.Thread(target=e.wait, daemon=True).start(),"
        " [int(t) for t in os.listdir('/proc/self/task')])[1])(threading.Event())"
    )[-1]
    assert tid != target.pid
    with pytest.raises(OSError, match="PIDFD_THREAD") as caught:
        pidfd_open(tid)
    assert caught.value.errno in (errno.EINVAL, errno.ENOENT)
    os.close(pidfd_open(tid, PIDFD_THREAD))


def test_pidfd_of_nobody() -> None:
    """A pid that is not in use is ProcessLookupError."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError, match=rf"pidfd_open\({child}\)"):
        pidfd_open(child)


@pytest.mark.parametrize("pid", [0, -1, -(1 << 31)])
def test_pid_that_names_none(pid: int) -> None:
    """Zero and negative pids are the kernel's EINVAL."""
    with pytest.raises(OSError, match=rf"pidfd_open\({pid}\)") as caught:
        pidfd_open(pid)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("flags", [1, -1, 0xFFFF])
def test_pidfd_flags_unknown(flags: int) -> None:
    """Flags that the kernel does not know are its EINVAL."""
    with pytest.raises(OSError, match="flags") as caught:
        pidfd_open(os.getpid(), flags)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("1",), TypeError, "pid '1' is not an int"),
        ((1.0,), TypeError, "pid 1.0"),
        ((None,), TypeError, "pid None"),
        ((1 << 31,), ValueError, "pid 2147483648"),
        ((1, "x"), TypeError, "flags 'x'"),
        ((1, 1 << 40), ValueError, "flags"),
    ],
)
def test_pidfd_open_refuses(arguments: Any, error: type[Exception], words: str) -> None:
    """What is no C int is refused by name and value."""
    with pytest.raises(error, match=words):
        pidfd_open(*arguments)


# What the advices do


@pytest.mark.needs_root
@pytest.mark.needs_swap
def test_pageout_goes_to_swap(target: Target) -> None:
    """PAGEOUT moves anonymous memory to swap, and it comes back intact."""
    address = target.filled(32 * MIB)
    before = target.status("VmSwap")
    assert (
        process_madvise_range(target.pidfd, address, 32 * MIB, Advice.PAGEOUT)
        == 32 * MIB
    )
    assert target.status("VmSwap") - before >= 31 * MIB
    assert target.intact(address, 32 * MIB)
    assert target.status("VmSwap") - before < MIB


@root
def test_cold_clears_referenced(target: Target) -> None:
    """COLD makes memory unreferenced, and leaves it where it is."""
    address = target.filled(8 * MIB)
    assert target.smaps(address, "Referenced") >= 8 * MIB
    assert process_madvise_range(target.pidfd, address, 8 * MIB, Advice.COLD) == 8 * MIB
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    assert target.smaps(address, "Rss") >= 8 * MIB
    assert target.intact(address, 8 * MIB)


@root
def test_pageout_of_a_file_leaves_memory(target: Target, tmp_path: Path) -> None:
    """PAGEOUT takes clean pages of a private file mapping out of memory."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4 * MIB)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    address = target.run(f"map({4 * MIB}, 1, 2, os.open({str(path)!r}, 0))")
    target.run(f"len(ctypes.string_at({address}, {4 * MIB}))")
    assert target.smaps(address, "Rss") == 4 * MIB
    process_madvise_range(target.pidfd, address, 4 * MIB, Advice.PAGEOUT)
    assert target.smaps(address, "Rss") == 0


@root
def test_willneed_reads_a_file(target: Target, tmp_path: Path) -> None:
    """WILLNEED brings a file into the page cache."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4 * MIB)
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), 4 * MIB) as view:
            assert resident_pages(view) == 0
            address = target.run(f"map({4 * MIB}, 1, 1, os.open({str(path)!r}, 0))")
            process_madvise_range(target.pidfd, address, 4 * MIB, Advice.WILLNEED)
            deadline = 10_000
            while resident_pages(view) < 4 * MIB // PAGE and deadline:
                select.select([], [], [], 0.001)  # the disk reads by itself
                deadline -= 1
            assert resident_pages(view) == 4 * MIB // PAGE


def resident_pages(view: mmap.mmap) -> int:
    """Count the pages of a file that are in the page cache. Wraps mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    anchor = ctypes.c_char.from_buffer(view)
    pages = ctypes.create_string_buffer(len(view) // PAGE)
    address, size = (
        ctypes.c_void_p(ctypes.addressof(anchor)),
        ctypes.c_size_t(len(view)),
    )
    assert libc.mincore(address, size, pages) == 0
    del anchor
    return sum(byte & 1 for byte in pages.raw[:-1]) + (pages.raw[-1] & 1)


@root
def test_collapse_makes_a_huge_page(target: Target) -> None:
    """COLLAPSE makes one huge page of small ones."""
    pmd = int(Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").read_text())
    area = target.run(f"map({2 * pmd})")
    address = -(-area // pmd) * pmd
    target.run("libc.prctl(41, 1, 0, 0, 0)")  # PR_SET_THP_DISABLE
    target.run(f"fill({address}, {pmd})")
    target.run("libc.prctl(41, 0, 0, 0, 0)")
    assert target.smaps(address, "AnonHugePages") == 0
    assert process_madvise_range(target.pidfd, address, pmd, Advice.COLLAPSE) == pmd
    assert target.smaps(address, "AnonHugePages") == pmd
    assert target.intact(address, pmd)


# Vectors


@root
def test_vector_of_1024(target: Target) -> None:
    """1,024 ranges go in one call, from a generator too."""
    address = target.filled(2 * IOV_MAX * PAGE)
    pairs = ((address + 2 * i * PAGE, PAGE) for i in range(IOV_MAX))
    assert process_madvise(target.pidfd, pairs, Advice.COLD) == IOV_MAX * PAGE
    assert 0 <= target.smaps(address, "Referenced") - IOV_MAX * PAGE <= LRU_BATCH


@pytest.mark.parametrize("make", [list, iter, Ranges])
def test_vector_of_1025(target: Target, make: Any) -> None:
    """1,025 ranges are refused with the index, before the kernel is asked."""
    with pytest.raises(ValueError, match=r"ranges\[1024\]: .* 1024, .* are 1025"):
        process_madvise(target.pidfd, make([(0, PAGE)] * 1025), Advice.COLD)


@pytest.mark.parametrize(
    ("pairs", "index"),
    [
        ([(0, 3 << 30)], 0),
        ([(0, MAX_RW_COUNT + 1)], 0),
        ([(0, 1 << 30), (1 << 30, 1 << 30)], 1),
        ([(0, MAX_RW_COUNT), (0, 0), (0, 1)], 2),
        ([(0, (1 << 63) + PAGE)], 0),
    ],
)
def test_more_than_a_call_takes(pairs: list[tuple[int, int]], index: int) -> None:
    """What the kernel would cut silently at 2 GiB is refused, with the index."""
    with pytest.raises(ValueError, match=rf"ranges\[{index}\]: .*MAX_RW_COUNT"):
        process_madvise(-1, pairs, Advice.COLD)


def test_3_gib_in_one_range() -> None:
    """The one-range form refuses what would be cut, too."""
    with pytest.raises(ValueError, match=r"0xc0000000.*MAX_RW_COUNT"):
        process_madvise_range(-1, 0, 3 << 30, Advice.COLD)


@root
def test_as_much_as_a_call_takes(target: Target) -> None:
    """MAX_RW_COUNT bytes are advised whole."""
    address = target.run(f"map({MAX_RW_COUNT}, flags=0x4022)")
    advised = process_madvise_range(target.pidfd, address, MAX_RW_COUNT, Advice.COLD)
    assert advised == MAX_RW_COUNT


@root
def test_partial_vector(target: Target) -> None:
    """[good, bad, good] returns the bytes of the first alone."""
    address = target.filled(8 * PAGE)
    target.run(f"unmap({address + 2 * PAGE}, {PAGE})")
    good, bad = (address, 2 * PAGE), (address + 2 * PAGE, PAGE)
    later = (address + 3 * PAGE, PAGE)
    vector = [good, bad, later]
    assert process_madvise(target.pidfd, vector, Advice.COLD) == 2 * PAGE
    with pytest.raises(OSError, match="not mapped") as caught:
        process_madvise(target.pidfd, [bad, good], Advice.COLD)
    assert caught.value.errno == errno.ENOMEM


@root
def test_hole_in_a_range(target: Target) -> None:
    """A hole is ENOMEM, after what is mapped of the range was advised."""
    address = target.filled(4 * MIB)
    target.run(f"unmap({address + MIB}, {PAGE})")
    with pytest.raises(OSError, match="what is mapped of it was advised") as caught:
        process_madvise_range(target.pidfd, address, 4 * MIB, Advice.COLD)
    assert caught.value.errno == errno.ENOMEM
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    assert target.smaps(address + MIB + PAGE, "Referenced") <= LRU_BATCH


@root
def test_locked_mapping(target: Target) -> None:
    """A locked mapping is EINVAL, and the message does not blame the advice."""
    address = target.filled(4 * PAGE)
    target.run(f"lock({address}, {4 * PAGE})")
    with pytest.raises(OSError, match="locked") as caught:
        process_madvise_range(target.pidfd, address, PAGE, Advice.PAGEOUT)
    assert caught.value.errno == errno.EINVAL


@root
def test_kernel_address(target: Target) -> None:
    """An address of the kernel is EFAULT or ENOMEM, never advised."""
    top = (1 << 64) - 2 * PAGE
    with pytest.raises(OSError, match="MADV_COLD") as caught:
        process_madvise_range(target.pidfd, top, PAGE, Advice.COLD)
    assert caught.value.errno in (errno.EFAULT, errno.EINVAL, errno.ENOMEM)


@root
def test_empty_vector_is_a_probe(target: Target) -> None:
    """No ranges: the kernel checks all but the ranges, and advises nothing."""
    assert process_madvise(target.pidfd, [], Advice.PAGEOUT) == 0


@root
def test_empty_range(target: Target) -> None:
    """A range of no bytes advises none."""
    assert process_madvise_range(target.pidfd, target.filled(PAGE), 0, Advice.COLD) == 0


@root
def test_length_counts_as_given(target: Target) -> None:
    """A length that is no multiple of a page is counted as it was given."""
    address = target.filled(4 * MIB)
    length = 2 * MIB + 1
    assert process_madvise_range(target.pidfd, address, length, Advice.COLD) == length
    assert target.smaps(address, "Referenced") <= 2 * MIB - PAGE + LRU_BATCH


@pytest.mark.parametrize("position", [0, 1, 1023])
def test_unaligned_address(position: int) -> None:
    """An address that is not page-aligned is refused with index and value."""
    pairs = [(0, PAGE)] * 1024
    pairs[position] = (PAGE + 8, PAGE)
    with pytest.raises(ValueError, match=rf"ranges\[{position}\]: .*{PAGE + 8:#x}"):
        process_madvise(-1, pairs, Advice.COLD)


@pytest.mark.parametrize(
    ("address", "length", "error", "words"),
    [
        (-PAGE, PAGE, ValueError, "address -"),
        (0, -1, ValueError, "length -1"),
        ((1 << 64) - PAGE, 2 * PAGE, ValueError, "past the end"),
        (1 << 64, PAGE, ValueError, "past the end"),
        (PAGE + 1, PAGE, ValueError, "page size"),
        (0.0, PAGE, TypeError, "address 0.0"),
        (0, "4096", TypeError, "length '4096'"),
        (None, PAGE, TypeError, "address None"),
    ],
)
def test_one_range_refused(
    address: Any, length: Any, error: type[Exception], words: str
) -> None:
    """The one-range form makes the checks of the vector."""
    for flags in (0, 1):
        with pytest.raises(error, match=words):
            process_madvise_range(-1, address, length, Advice.COLD, flags)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("7", [], 20), TypeError, "pidfd '7' is neither an int nor"),
        ((None, [], 20), TypeError, "pidfd None"),
        ((3.0, [], 20), TypeError, "pidfd 3.0"),
        ((1 << 40, [], 20), ValueError, "pidfd 1099511627776"),
        ((-1, None, 20), TypeError, "iterable"),
        ((-1, [], "cold"), TypeError, "advice 'cold'"),
        ((-1, [], 1 << 31), ValueError, "advice 2147483648"),
        ((-1, [], 20, "0"), TypeError, "flags '0'"),
        ((-1, [], 20, 1 << 33), ValueError, "flags 8589934592"),
        ((Owner("x"), [], 20), TypeError, "fileno"),  # type: ignore[arg-type]
    ],
)
def test_arguments_refused(arguments: Any, error: type[Exception], words: str) -> None:
    """What can be known without the kernel names the argument and its value."""
    with pytest.raises(error, match=words):
        process_madvise(*arguments)


@root
@pytest.mark.parametrize("call", ["vector", "range"])
def test_pidfd_with_fileno(target: Target, call: str) -> None:
    """Anything with fileno() is a pidfd."""
    address, owner = target.filled(PAGE), Owner(target.pidfd)
    if call == "vector":
        advised = process_madvise(owner, [(address, PAGE)], Advice.COLD)
    else:
        advised = process_madvise_range(owner, address, PAGE, Advice.COLD)
    assert advised == PAGE


# What the kernel refuses


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
        pytest.skip("this kernel takes the remote advices alone: Linux 6.13 has it")
    with mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[0] = 1
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        process_madvise_range(own_pidfd, address, PAGE, Advice.DONTNEED)
        assert memory[0] == 0


def own_process_takes_dontneed() -> bool:
    """Ask the kernel with an empty vector."""
    pidfd = pidfd_open(os.getpid())
    try:
        return pmadvise._sys.probe(pidfd, Advice.DONTNEED) == 0
    finally:
        os.close(pidfd)


def test_zombie(target: Target) -> None:
    """A zombie has no memory: ProcessLookupError that says so."""
    target.process.kill()
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
    kthreadd = next(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/comm")
        if path.read_text() == "kthreadd\n"
    )
    pidfd = pidfd_open(kthreadd)
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
def test_non_dumpable(target: Target) -> None:
    """A target that is not dumpable is EACCES without a capability for it."""
    target.run("libc.prctl(4, 0, 0, 0, 0)")  # PR_SET_DUMPABLE

    def advise() -> None:
        drop_capabilities(CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON)
        process_madvise(target.pidfd, [], Advice.COLD)

    outcome = in_child(advise)
    assert (outcome.errno, "non-dumpable" in outcome.text) == (errno.EACCES, True)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EPERM, "seccomp filter"), (errno.ENOSYS, "Linux 5.10")]
)
def test_seccomp_filter(own_pidfd: int, number: int, words: str) -> None:
    """A seccomp filter is told from a missing capability."""

    def advise() -> None:
        refuse_syscall(440, number)
        process_madvise(own_pidfd, [], Advice.COLD)

    outcome = in_child(advise)
    assert (outcome.errno, words in outcome.text) == (number, True)


def test_seccomp_filter_on_pidfd_open() -> None:
    """A filter that refuses pidfd_open is named."""

    def refused() -> None:
        refuse_syscall(434, errno.EPERM)
        pidfd_open(os.getpid())

    outcome = in_child(refused)
    assert (outcome.error, "seccomp" in outcome.text) == ("PermissionError", True)


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_errno_becomes_an_oserror(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever errno the kernel says is in the OSError, with the call's name."""
    monkeypatch.setattr(pmadvise._sys, "checked", lambda *_: -number)
    monkeypatch.setattr(calls, "_checked_range", lambda *_: -number)
    everything: list[tuple[Any, ...]] = [
        (process_madvise, -1, []),
        (process_madvise_range, -1, 0, PAGE),
    ]
    for call, *arguments in everything:
        with pytest.raises(OSError, match=r"process_madvise\(MADV_PAGEOUT\)") as caught:
            call(*arguments, Advice.PAGEOUT)
        assert caught.value.errno == number
        assert type(caught.value) is type(OSError(number, ""))


# The states a target may be in


@root
def test_stopped_target(target: Target) -> None:
    """A stopped process is advised like a running one."""
    address = target.filled(4 * MIB)
    send(target.pidfd, signal.SIGSTOP)
    wait_for_state(target.pid, "T")
    process_madvise_range(target.pidfd, address, 4 * MIB, Advice.COLD)
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    send(target.pidfd, signal.SIGCONT)


@root
def test_target_traced_by_another(target: Target) -> None:
    """A process that a debugger holds is advised, where injection could not work."""
    address = target.filled(4 * MIB)
    tracer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import ctypes, sys; libc = ctypes.CDLL(None)\n"
            f"print(libc.ptrace(0x4206, {target.pid}, None, None), flush=True)\n"
            f"print(libc.ptrace(0x4207, {target.pid}, None, None), flush=True)\n"
            "sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with tracer:
        assert tracer.stdout is not None
        assert [tracer.stdout.readline() for _ in range(2)] == ["0\n", "0\n"]
        wait_for_state(target.pid, "t")
        process_madvise_range(target.pidfd, address, 4 * MIB, Advice.COLD)
        assert target.smaps(address, "Referenced") <= LRU_BATCH
        tracer.communicate()
    assert target.intact(address, 4 * MIB)


@root
@pytest.mark.needs_swap
def test_work_is_charged_to_the_caller(target: Target) -> None:
    """The caller pays for the work: the target's CPU time does not move."""
    address = target.filled(64 * MIB)
    send(target.pidfd, signal.SIGSTOP)
    wait_for_state(target.pid, "T")
    before, own = target.cpu_ticks(), os.times()
    process_madvise_range(target.pidfd, address, 64 * MIB, Advice.PAGEOUT)
    after = os.times()
    assert target.cpu_ticks() == before
    assert after.system - own.system > 0
    send(target.pidfd, signal.SIGCONT)
    assert target.intact(address, 64 * MIB)


@root
def test_threads_call_at_once(target: Target) -> None:
    """One Ranges is used by several threads at a time."""
    address = target.filled(256 * PAGE)
    ranges = Ranges((address + i * PAGE, PAGE) for i in range(256))
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(
            lambda _: process_madvise(target.pidfd, ranges, Advice.COLD), range(64)
        )
        assert set(done) == {256 * PAGE}
