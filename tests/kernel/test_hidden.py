"""What a namespace, a mount or a right hides: errors and warnings, never "no"."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.cgroups import nested_cgroups, write_in
from helpers.children import Lacking, in_child, value_of_child
from helpers.hold_targets import Cgroup, cgroup_of
from helpers.namespaces import (
    cover,
    mount_proc,
    unmount_proc,
    unshare_cgroups,
    unshare_pids,
)
from helpers.privileges import become_nobody
from helpers.targets import Target

import pmadvise
from pmadvise import Advice, Pressure, Process, Support, processes, support, swap
from pmadvise._proc.cgroups import is_frozen

root = pytest.mark.needs_root
v2 = pytest.mark.needs_cgroup2
mounts = pytest.mark.needs_mounts


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A cgroup of the test's own, of v2."""
    with cgroup_of(2) as made:
        yield made


@root
@v2
@mounts
def test_cgroups_that_are_not_mounted(cgroup: Cgroup, target: Target) -> None:
    """Without its mount a cgroup is hidden: reasons with a remedy, and no "no"."""
    cgroup.add(target.pid)

    def hidden() -> tuple[str, bool | None, Support]:
        cgroup.add(os.getpid())
        unshare_cgroups()
        cover(str(cgroup.path.parent.parent), "/mnt")
        proc = os.open(f"/proc/{target.pid}", os.O_RDONLY)
        with Process(target.pid) as process:
            try:
                process.hold("freezer").__enter__()
            except PermissionError as error:
                return str(error), is_frozen(proc, target.pid), support()
        raise AssertionError

    text, frozen, answers = value_of_child(hidden)
    assert "--cgroupns=host" in text
    assert frozen is None
    assert (answers.cgroup.refused_by, answers.memory_limit) == ("cgroup", None)


@root
@v2
@mounts
def test_a_frozen_target_whose_cgroup_is_hidden(cgroup: Cgroup, target: Target) -> None:
    """That the target may be frozen is in the error of a hold that is too late."""
    cgroup.add(target.pid)
    cgroup.freeze()

    def hold() -> None:
        unshare_cgroups()
        cover(str(cgroup.path.parent.parent), "/mnt")
        with Process(target.pid) as process:
            process.hold("sigstop", 0.05).__enter__()

    outcome = in_child(hold)
    cgroup.thaw()
    assert outcome.error == "TimeoutError"
    assert "whether its cgroup is frozen is hidden here" in outcome.text


@root
@v2
def test_a_path_that_is_cut(cgroup: Cgroup, target: Target) -> None:
    """The kernel cuts long paths, which then name another cgroup: they are unknown."""
    with nested_cgroups(cgroup.path, b"d" * 200, 30) as innermost:
        write_in(innermost, "cgroup.procs", str(target.pid))
        proc = os.open(f"/proc/{target.pid}", os.O_RDONLY)
        frozen = is_frozen(proc, target.pid, (2,))
        os.close(proc)
        with (
            Process(target.pid) as process,
            pytest.raises(PermissionError, match="longer than the kernel shows"),
        ):
            process.hold("freezer").__enter__()
        (cgroup.path.parent / "cgroup.procs").write_text(str(target.pid))
    assert frozen is None


def told(function: Callable[[], object]) -> list[str]:
    """Return the warnings of a function."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(warning.message) for warning in caught]


@root
@v2
@mounts
@pytest.mark.needs_pid_namespace
def test_members_of_another_pid_namespace(cgroup: Cgroup, target: Target) -> None:
    """Those that a pid namespace does not see are told of, with the remedy."""
    cgroup.add(target.pid)

    def inside() -> list[str]:
        mount_proc("")
        return told(lambda: list(processes(cgroup=cgroup.path)))

    def outside() -> list[str]:
        unshare_pids()
        texts: list[str] = value_of_child(inside)
        return texts

    [text] = value_of_child(outside)
    assert str(cgroup.path) in text
    assert "--pid=host" in text


@root
@v2
@mounts
@pytest.mark.parametrize("of", ["cgroup", "host"])
def test_members_that_proc_hides(cgroup: Cgroup, target: Target, of: str) -> None:
    """Those that hidepid hides are told of."""
    cgroup.add(target.pid)

    def hidden() -> list[str]:
        mount_proc("hidepid=2")
        become_nobody()
        path = cgroup.path if of == "cgroup" else None
        return told(lambda: list(processes(cgroup=path)))

    [text] = value_of_child(hidden)
    assert "hidepid" in text


def foreign_proc() -> None:
    """Enter a pid namespace whose /proc is still that of the host."""
    unshare_pids()
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


@root
@mounts
@pytest.mark.needs_pid_namespace
@pytest.mark.parametrize("arguments", [{}, {"tree": 1}, {"cgroup": "/"}])
@pytest.mark.parametrize(
    ("change", "words"),
    [(unmount_proc, "not mounted"), (foreign_proc, "another pid namespace")],
)
def test_processes_without_their_proc(
    change: Callable[[], None], words: str, arguments: dict[str, object]
) -> None:
    """Without a /proc of this namespace processes() is an error with the remedy."""

    def listed() -> object:
        change()
        return list(processes(**arguments))  # type: ignore[arg-type]

    outcome = in_child(listed)
    assert (outcome.error, outcome.errno) == ("PermissionError", errno.EACCES)
    assert words in outcome.text
    assert "mount -t proc proc /proc" in outcome.text


def cover_swaps() -> None:
    cover("/proc/swaps", "/dev/null")


def mount_subset() -> None:
    try:
        mount_proc("subset=pid")
    except Lacking:  # Linux 5.8
        unmount_proc()


@root
@mounts
@pytest.mark.parametrize("hide", [cover_swaps, mount_subset, unmount_proc])
def test_swap_that_is_hidden(hide: Callable[[], None]) -> None:
    """Hidden swap is an error, and support() has it as unknown with the reason."""

    def look() -> Support:
        hide()
        with pytest.raises(OSError, match="hidden, not absent"):
            swap()
        return support()

    found = value_of_child(look)
    assert (found.swap_total, found.swap_free) == (None, None)
    assert (found.swap.refused_by, found.swap.remedy != "") == ("proc", True)


@root
@mounts
def test_a_dry_run_with_hidden_swap(target: Target) -> None:
    """What needs no swap to be seen works without."""
    address = target.map(1 << 20)

    def rehearse() -> int:
        cover_swaps()
        with Process(target.pid) as process:
            return process.pageout([(address, 1 << 20)], dry_run=True).advised

    assert value_of_child(rehearse) == 1 << 20


@root
@v2
def test_pressure_that_is_turned_off(cgroup: Cgroup) -> None:
    """A cgroup whose pressure is not counted is not a kernel without PSI."""
    switch = cgroup.path / "cgroup.pressure"
    if not switch.exists():
        pytest.skip("kernel: no cgroup.pressure before Linux 6.1")
    switch.write_text("0")
    with pytest.raises(OSError, match="turned off for this cgroup") as caught:
        Pressure(cgroup.path / "memory.pressure")
    assert f"write 1 to {switch}" in str(caught.value)


@root
@mounts
@pytest.mark.parametrize(
    ("hide", "words"), [(mount_subset, "hidden"), (unmount_proc, "hidden")]
)
def test_pressure_that_is_hidden(hide: Callable[[], None], words: str) -> None:
    """A /proc that hides the file does not say that the kernel has no PSI."""

    def look() -> str:
        hide()
        answer = support().pressure
        with pytest.raises(OSError, match=answer.reason):
            Pressure()
        return answer.reason

    assert words in value_of_child(look)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/no/such/memory.pressure", "no such cgroup.*PSI"),
        ("/sys/fs/cgroup/freezer/memory.pressure", "cgroup v1"),
    ],
)
def test_no_pressure(path: str, words: str) -> None:
    """What is no pressure file is told by what it is."""
    if not Path(path).parent.exists() and "v1" in words:
        pytest.skip("machine: no cgroup v1")
    with pytest.raises(FileNotFoundError, match=words):
        Pressure(path)


def test_huge_pages_that_are_disabled(target: Target) -> None:
    """PR_SET_THP_DISABLE is the reason why COLLAPSE is refused, and only COLLAPSE."""
    before = support(target.pid).target
    target.run("libc.prctl(41, 1, 0, 0, 0)")  # PR_SET_THP_DISABLE
    after = support(target.pid).target
    assert before is not None
    assert after is not None
    assert after.advice[Advice.COLD] == before.advice[Advice.COLD]
    if before.advice[Advice.COLLAPSE]:
        assert after.advice[Advice.COLLAPSE].refused_by == "process"
        assert "PR_SET_THP_DISABLE" in after.advice[Advice.COLLAPSE].reason
        size = support().huge_page_size or 0
        address = target.map(2 * size)
        target.run(f"ctypes.memset({address}, 1, {2 * size})")
        with Process(target.pid) as process:
            report = process.collapse([((address + size - 1) & -size, size)])
        assert (report.advised, report.skipped[0].errno) == (0, errno.EINVAL)
    target.run("libc.prctl(41, 0, 0, 0, 0)")
    again = pmadvise.support(target.pid).target
    assert again is not None
    assert again.advice == before.advice
