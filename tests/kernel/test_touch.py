"""willneed(touch=True) maps what it read ahead, and nothing that was not there."""

from __future__ import annotations

import errno
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import proc
from helpers.children import in_child, value_of_child
from helpers.filters import refuse_syscall
from helpers.page_cache import uncached_file
from helpers.privileges import (
    CAP_DAC_READ_SEARCH,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    become_nobody_with,
)
from helpers.targets import GIB, LRU_BATCH, MIB, PAGE, Target, exec_shell

from pmadvise import Advice, Process, Report, advise_each, support

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_swap]

SIZE = 16 * MIB
MINFLT, MAJFLT = 7, 9
"""Indices of the fields in proc.stat()."""
NR_PROCESS_VM_READV = 310
x86_64 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="machine: the number of process_vm_readv"
)


def faults(target: Target, address: int, size: int = SIZE) -> int:
    """Let the target read each page; return the faults that it has then."""
    n = f"range({size // PAGE})"
    target.run(f"look({address}, range(1))")  # what the loop itself needs

    def count() -> int:
        fields = proc.stat(target.pid)
        return int(fields[MINFLT]) + int(fields[MAJFLT])

    before = count()
    target.run(f"look({address}, {n})")
    return count() - before


def away(target: Target, process: Process, size: int = SIZE) -> int:
    """Fill memory of the target's, and page it out; return its address."""
    address = target.filled(size)
    process.pageout([(address, size)])
    assert process.swapped([(address, size)]).total >= size - LRU_BATCH
    return address


def test_no_fault_is_left(target: Target, process: Process) -> None:
    """Without touch the target has a fault for each page, with it none."""
    address = away(target, process)
    plain = process.willneed([(address, SIZE)])
    assert plain.touched == 0
    assert faults(target, address) >= (SIZE - LRU_BATCH) // PAGE
    process.pageout([(address, SIZE)])
    told: list[tuple[int, int]] = []
    report = process.willneed(
        [(address, SIZE)], touch=True, on_progress=lambda *n: told.append(n)
    )
    assert (report.ended, report.advised) == ("complete", SIZE)
    assert SIZE - LRU_BATCH <= report.touched <= SIZE
    assert told[-1] == (SIZE + report.touched, SIZE + report.touched)
    assert faults(target, address) <= LRU_BATCH // PAGE
    assert target.intact(address, SIZE)


def test_default_selection(target: Target, process: Process) -> None:
    """All private memory that was in swap is mapped."""
    away(target, process)
    report = process.willneed(touch=True)
    assert report.touched == report.advised >= SIZE - LRU_BATCH
    assert process.status().swap == 0
    again = process.willneed(touch=True)
    assert (again.requested, again.touched) == (0, 0)


def test_reserved_memory_is_not_filled(target: Target, process: Process) -> None:
    """Of 128 GiB that were never touched nothing is read, and none is made."""
    address = target.reserved(128 * GIB)  # with 256 MiB of tables
    target.run(f"fill({address + 7 * PAGE}, {64 * PAGE})")
    process.pageout([(address, MIB)])
    tables = target.status("VmPTE")
    report = process.willneed([(address, 128 * GIB)], touch=True, timeout=20)
    assert report.touched <= 64 * PAGE
    assert report.touched >= 64 * PAGE - LRU_BATCH
    assert target.status("VmPTE") <= tables + MIB


def test_shared_memory_is_not_filled(target: Target, process: Process) -> None:
    """What was never written of shared memory stays so: it is not touched."""
    address = target.run(f"map({SIZE}, flags=SHARED, fd=memfd(b'sparse', {SIZE}))")
    report = process.willneed([(address, SIZE)], touch=True)
    assert (report.ended, report.touched) == ("complete", 0)
    assert process.status().shmem == 0


def test_holes_locked_and_unreadable(target: Target, process: Process) -> None:
    """Holes are skips; what can't be read is advised, and not touched."""
    address = away(target, process, 8 * MIB)
    target.run(f"unmap({address + 2 * MIB}, {MIB})")
    target.run(f"protect({address + 4 * MIB}, {MIB}, NONE)")
    report = process.willneed([(address, 8 * MIB)], touch=True)
    assert [(s.address, s.length) for s in report.skipped] == [(address + 2 * MIB, MIB)]
    assert report.skipped[0].errno == errno.ENOMEM
    assert report.advised == 7 * MIB
    assert 6 * MIB - LRU_BATCH <= report.touched <= 6 * MIB
    assert process.swapped([(address + 4 * MIB, MIB)]).total >= MIB - LRU_BATCH
    target.run(f"lock({address}, {MIB})")
    assert process.willneed([(address, MIB)], touch=True).touched == 0


def test_a_file_past_its_end(target: Target, process: Process, tmp_path: Path) -> None:
    """The pages of a mapped file are mapped; those behind its end can't be."""
    path = tmp_path / "file"
    with uncached_file(path, 4 * MIB) as view:
        address = target.mapped_file(path, 4 * MIB, ", prot=READ")
        os.truncate(path, 2 * MIB)
        report = process.willneed([(address, 4 * MIB)], touch=True)
        if report.touched == 0:
            kind = os.stat(path).st_dev
            pytest.skip(f"machine: {tmp_path} is not on a disk (device {kind:#x})")
        assert report.touched == 2 * MIB
        assert faults(target, address, 2 * MIB) <= LRU_BATCH // PAGE
        del view


def test_budget_and_cancel(target: Target, process: Process) -> None:
    """Only what was advised is touched; a cancel ends the touching too."""
    address = away(target, process)
    report = process.willneed([(address, SIZE)], touch=True, budget=4 * MIB)
    assert (report.ended, report.touched) == ("budget", 4 * MIB)
    cancel = threading.Event()

    def stop(done: int, _all: int) -> None:
        if done > SIZE:  # while it touches
            cancel.set()

    report = process.willneed(
        [(address, SIZE)], touch=True, cancel=cancel, on_progress=stop, max_stall=0.001
    )
    assert (report.ended, report.advised) == ("cancelled", SIZE)
    assert 0 < report.touched < SIZE - 4 * MIB
    report = process.willneed([(address, SIZE)], touch=True, timeout=0)
    assert (report.ended, report.touched) == ("timeout", 0)


def test_rehearsal(target: Target, process: Process) -> None:
    """A dry run reads nothing, and tells what would be read."""
    address = away(target, process)
    swapped = process.status().swap
    report = process.willneed([(address, SIZE)], touch=True, dry_run=True)
    assert (report.ended, report.calls) == ("complete", 0)
    assert report.touched >= SIZE - LRU_BATCH
    assert process.status().swap == swapped


def test_exec_and_exit(target: Target, process: Process) -> None:
    """A target that execs, or ends, while it is touched: the report says so."""
    address = away(target, process)

    def exec_at(done: int, _all: int) -> None:
        if done > SIZE and not gone:
            gone.append(True)
            exec_shell(target)

    gone: list[bool] = []
    report = process.willneed(
        [(address, SIZE)], touch=True, on_progress=exec_at, max_stall=0.001
    )
    assert (report.ended, report.advised) == ("exec", SIZE)
    assert 0 < report.touched < SIZE
    target.kill()
    with pytest.raises(ProcessLookupError):
        process.willneed([(address, SIZE)], touch=True)


def test_an_exception_has_what_was_touched(target: Target, process: Process) -> None:
    """That of a callback leaves, with the report so far."""
    address = away(target, process)

    def fail(done: int, _all: int) -> None:
        if done > SIZE:
            raise KeyError(done)

    with pytest.raises(KeyError) as caught:
        process.willneed([(address, SIZE)], touch=True, on_progress=fail)
    report = caught.value.report  # type: ignore[attr-defined]
    assert isinstance(report, Report)
    assert report.ended == "cancelled"
    assert 0 < report.touched <= SIZE


def test_many_processes(target: Target, process: Process) -> None:
    """advise_each() passes it on; to another advice it is wrong."""
    away(target, process)
    [(_, report)] = advise_each([process], Advice.WILLNEED, touch=True)
    assert isinstance(report, Report)
    assert report.touched >= SIZE - LRU_BATCH
    for wrong in (
        lambda: advise_each([process], Advice.PAGEOUT, touch=True),
        lambda: process.cold(touch=True),
        lambda: process.advise([], Advice.COLLAPSE, touch=True),
    ):
        with pytest.raises(ValueError, match="of WILLNEED alone"):
            wrong()


def test_own_process() -> None:
    """A process may touch its own memory."""
    with Process(os.getpid()) as process:
        report = process.willneed(touch=True)
    assert report.touched == report.advised


def refusal(give_up: Callable[[], object], pid: int) -> tuple[str, int, bool]:
    """Return how a caller with fewer rights is refused, and what support() says."""

    def ask() -> tuple[str, bool, int | None]:
        give_up()
        found = support(pid).target
        assert found is not None
        with Process(pid) as process:
            process.willneed()
            try:
                process.willneed(touch=True)
            except OSError as error:
                return str(error), bool(found.touch), error.errno
            return "", bool(found.touch), None

    text, answer, number = value_of_child(ask)
    return text, number or 0, answer


def test_rights(target: Target) -> None:
    """Without ptrace attach access it is refused, by name, before any advice."""
    nice = CAP_SYS_NICE, CAP_SYS_PTRACE
    text, number, answer = refusal(lambda: become_nobody_with(*nice), target.pid)
    assert (number, answer) == (errno.EACCES, False)
    assert "CAP_DAC_READ_SEARCH" in text
    every = (*nice, CAP_DAC_READ_SEARCH)
    assert refusal(lambda: become_nobody_with(*every), target.pid) == ("", 0, True)


@x86_64
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_seccomp(target: Target, number: int) -> None:
    """A filter that refuses process_vm_readv is told as such."""

    def ask() -> None:
        refuse_syscall(NR_PROCESS_VM_READV, number)
        with Process(target.pid) as process:
            process.willneed(touch=True)

    outcome = in_child(ask)
    assert outcome.errno == number
    assert "seccomp filter" in str(outcome.text)
    assert "process_vm_readv" in str(outcome.text)


def test_the_lock_is_not_kept(target: Target, process: Process) -> None:
    """The target maps memory meanwhile: no call keeps it waiting for long."""
    address = away(target, process, 64 * MIB)
    waits: list[float] = []

    def let_it_map(done: int, _all: int) -> None:
        if done > 64 * MIB and len(waits) < 5:
            begin = time.monotonic()
            target.run(f"unmap(map({PAGE}), {PAGE})")
            waits.append(time.monotonic() - begin)

    process.willneed([(address, 64 * MIB)], touch=True, on_progress=let_it_map)
    assert waits
