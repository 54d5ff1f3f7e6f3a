"""A daemon that is not root, on a process of root: which right is needed for what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.children import in_child, value_of_child
from helpers.namespaces import mount_proc
from helpers.privileges import (
    CAP_DAC_READ_SEARCH,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    become_nobody_with,
)
from helpers.public_calls import READS
from helpers.targets import LRU_BATCH, MIB, PAGE, Target

from pmadvise import Advice, Process, Ranges, Report

pytestmark = pytest.mark.needs_root

RIGHTS = (CAP_SYS_NICE, CAP_SYS_PTRACE)
NEED_NO_MORE = sorted(set(READS) - {"resident", "swapped"} | {"status"})
METHODS: dict[str, Callable[[Process], object]] = {**READS, "status": Process.status}


@pytest.fixture
def sparse(target: Target) -> int:
    """Memory of the target of which one page in four is touched."""
    target.run("prctl(PR_SET_THP_DISABLE, 1)")
    return target.touched("range(0, 1024, 4)", size=1024)


def as_daemon(target: Target, function: Callable[[Process], object], *more: int) -> Any:
    """Run a function on a handle, as a user with the two capabilities, and more."""

    def look() -> Any:
        become_nobody_with(*RIGHTS, *more)
        with Process(target.pid) as process:
            return function(process)

    return value_of_child(look)


@pytest.mark.parametrize("name", NEED_NO_MORE)
@pytest.mark.usefixtures("ioctls_of_a_release")
def test_two_capabilities_are_enough(target: Target, name: str) -> None:
    """With CAP_SYS_NICE and CAP_SYS_PTRACE alone the daemon's methods work."""
    target.filled(MIB)
    as_daemon(target, lambda process: METHODS[name](process) is None)


@pytest.mark.needs_mounts
@pytest.mark.parametrize("hidepid", [0, 1, 2, 4])
@pytest.mark.parametrize("method", ["ptrace", "auto"])
def test_hold_by_effective_capabilities(
    target: Target, hidepid: int, method: str
) -> None:
    """A daemon whose capabilities open /proc/PID holds, though its user could not."""

    def hold() -> str:
        mount_proc(f"hidepid={hidepid}")
        become_nobody_with(*RIGHTS, CAP_DAC_READ_SEARCH)
        with Process(target.pid) as process, process.hold(method, 20) as held:
            return held.method

    assert value_of_child(hold) == "ptrace"


@pytest.mark.parametrize("name", ["resident", "swapped"])
def test_pages_need_another(target: Target, name: str) -> None:
    """The pages of another user's process need CAP_DAC_READ_SEARCH."""

    def look() -> object:
        become_nobody_with(*RIGHTS)
        with Process(target.pid) as process:
            return METHODS[name](process)

    outcome = in_child(look)
    assert outcome.error == "PermissionError"
    assert "CAP_DAC_READ_SEARCH" in outcome.text
    assert "add CAP_SYS_PTRACE" not in outcome.text


@pytest.mark.parametrize("name", sorted(METHODS))
def test_with_that_everything_works(target: Target, name: str) -> None:
    """With CAP_DAC_READ_SEARCH besides, every method works."""
    target.filled(MIB)
    as_daemon(
        target, lambda process: METHODS[name](process) is None, CAP_DAC_READ_SEARCH
    )


def report_of(method: Callable[[Process], Report]) -> Callable[[Process], object]:
    """Return a function that returns what a child can send back."""

    def function(process: Process) -> object:
        report = method(process)
        return report.requested, report.advised, report.ended

    return function


@pytest.mark.parametrize("method", [Process.cold, Process.pageout])
def test_whole_mappings(
    target: Target, sparse: int, method: Callable[[Process], Report]
) -> None:
    """Without that right whole mappings are advised, those that have memory."""
    target.reserved(1 << 36)
    requested, advised, ended = as_daemon(target, report_of(method))
    with Process(target.pid) as process:
        whole = process.maps().select(anonymous=True, private=True).total
    assert (advised, ended) == (requested, "complete")
    assert 1024 * PAGE <= requested <= whole - (1 << 36)


@pytest.mark.parametrize("method", [Process.cold, Process.pageout])
def test_cut_to_memory(
    target: Target, sparse: int, method: Callable[[Process], Report]
) -> None:
    """With that right the selection is cut to the pages in memory."""
    area = Ranges([(sparse, 1024 * PAGE)])
    with Process(target.pid) as process:
        resident = process.resident(process.maps().select(anonymous=True, private=True))
    assert (resident & area).total == 256 * PAGE
    requested, *_ = as_daemon(target, report_of(method), CAP_DAC_READ_SEARCH)
    assert abs(requested - resident.total) <= MIB


@pytest.mark.parametrize("separator", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_name_selects_nothing(target: Target, tmp_path: Path, separator: str) -> None:
    """A file named like a line of smaps makes no other memory be selected."""
    empty = target.reserved(1 << 36)
    header = f"{empty:x}-{empty + (1 << 36):x} rw-p 00000000 00:00 0 "
    path = tmp_path / f"a{separator}{header}"
    path.write_bytes(bytes(PAGE))
    target.run(f"look({target.mapped_file(path, PAGE)}, [0])")
    requested, *_ = as_daemon(target, report_of(Process.cold))
    assert requested < 1 << 36


@pytest.mark.needs_swap
def test_pageout_moves_memory(target: Target) -> None:
    """Without that right pageout() moves memory all the same."""
    address = target.filled(8 * MIB)
    as_daemon(target, report_of(Process.pageout))
    assert target.smaps(address, "Swap") >= 8 * MIB - LRU_BATCH


def test_a_budget_needs_it(target: Target) -> None:
    """A budget counts pages in memory, so it needs that right too."""
    address = target.filled(MIB)

    def look() -> object:
        become_nobody_with(*RIGHTS)
        with Process(target.pid) as process:
            return process.advise([(address, MIB)], Advice.COLD, budget=MIB)

    outcome = in_child(look)
    assert outcome.error == "PermissionError"
    assert "CAP_DAC_READ_SEARCH" in outcome.text


@pytest.mark.parametrize("lacking", RIGHTS, ids=["CAP_SYS_NICE", "CAP_SYS_PTRACE"])
def test_both_are_needed(target: Target, lacking: int) -> None:
    """Without one of the two the error names that one."""
    name = {CAP_SYS_NICE: "CAP_SYS_NICE", CAP_SYS_PTRACE: "CAP_SYS_PTRACE"}[lacking]

    def look() -> None:
        become_nobody_with(*(set(RIGHTS) - {lacking}))
        with Process(target.pid) as process:
            process.cold()

    outcome = in_child(look)
    assert outcome.error == "PermissionError"
    assert name in outcome.text
