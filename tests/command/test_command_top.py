"""`pmadvise top`: processes in their order, with the numbers of /proc."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import proc
from helpers.children import value_of_child
from helpers.command import run, run_here, run_with_descriptors
from helpers.namespaces import mount_proc
from helpers.privileges import become_nobody_with
from helpers.targets import MIB, Target

from pmadvise.command.options import Wanted
from pmadvise.command.ranking import Ranking
from pmadvise.command.targets import Targets

KEYS = ["pid", "name", "status", "cgroup"]
N_CHILDREN = 40
FEW = 16
"""File descriptors."""
A_TICK = "sum(range(3 * 10**6))"
"""Takes more CPU time than the kernel's unit of it."""

pytestmark = pytest.mark.needs_root


@pytest.fixture
def trio() -> Iterator[list[Target]]:
    """Three processes that differ in memory and in CPU time, not in one order."""
    with contextlib.ExitStack() as stack:
        targets = []
        for n_bytes, n_ticks in ((4 * MIB, 4), (16 * MIB, 0), (8 * MIB, 8)):
            target = Target()
            stack.callback(target.close)
            target.filled(n_bytes)
            for _ in range(n_ticks):
                target.run(A_TICK)
            targets.append(target)
        yield targets


@pytest.fixture
def crowd(target: Target) -> Iterator[list[int]]:
    """A target and its children."""
    children = [target.run("fork()") for _ in range(N_CHILDREN)]
    yield [target.pid, *children]
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def ranked(*arguments: object) -> list[dict[str, Any]]:
    """Return the objects of `pmadvise top --json`, without an error."""
    done = run("top", "--json", *arguments)
    assert (done.status, done.err) == (0, "")
    return done.objects


def test_keys(target: Target) -> None:
    """JSON has the keys of the contract, and the numbers of /proc."""
    [found] = ranked(target.pid)
    assert list(found) == KEYS
    assert (found["pid"], found["status"]["rss"]) == (
        target.pid,
        target.status("VmRSS"),
    )
    lines = Path(f"/proc/{target.pid}/cgroup").read_text(encoding="utf-8").split("\n")
    assert found["cgroup"] in [line.split(":", 2)[-1] for line in lines]


@pytest.mark.parametrize(
    ("arguments", "order"),
    [((), [1, 2, 0]), (("--sort", "rss"), [1, 2, 0]), (("--sort", "cpu"), [2, 0, 1])],
    ids=str,
)
def test_order(
    trio: list[Target], arguments: tuple[str, ...], order: list[int]
) -> None:
    """The largest is the first."""
    pids = [target.pid for target in trio]
    found = ranked(*pids, *arguments)
    assert [row["pid"] for row in found] == [pids[index] for index in order]


@pytest.mark.needs_swap
def test_order_by_swap(trio: list[Target]) -> None:
    """With --sort swap it is who has most in swap."""
    small, large, middle = (target.pid for target in trio)
    assert run("pageout", "--quiet", small, middle).status == 0
    found = ranked(small, large, middle, "--sort", "swap")
    assert [row["pid"] for row in found] == [middle, small, large]
    sizes = [row["status"]["swap"] for row in found]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("option", ["--json", "--quiet", ""])
def test_the_host(target: Target, option: str) -> None:
    """Without a target all processes are there, but kernel threads."""
    done = run("top", *option.split())
    assert (done.status, done.err) == (0, "")
    if option == "--json":
        pids = [row["pid"] for row in done.objects]
    else:
        pids = [int(line.split()[0]) for line in done.out.split("\n")[3:-1]]
    assert (target.pid in pids) is (option != "--quiet")
    assert proc.kthreadd() not in pids


def test_not_itself() -> None:
    """The command leaves itself out."""
    assert os.getpid() not in [t.pid for t in Targets((), (), (), host=True)]


def test_nothing_is_no_host() -> None:
    """Targets of nothing are none, unless the host is asked for."""
    assert len(Targets((), (), ())) == 0


def test_a_row(target: Target) -> None:
    """A row has the name, the user, the memory and the cgroup."""
    target.filled(8 * MIB)
    done = run("top", target.pid, COLUMNS="200")
    row = done.out.split("\n")[3].split()
    [found] = ranked(target.pid)
    assert row[:3] == [str(target.pid), found["name"], "root"]
    assert (row[4], row[-1]) == ("0B", found["cgroup"])


def test_a_user_without_a_name(target: Target) -> None:
    """A user that has no name is shown by the number."""
    target.run("os.setresuid(54321, 54321, 54321)")
    assert run("top", target.pid).out.split("\n")[3].split()[2] == "54321"


def test_a_dead_target(target: Target) -> None:
    """One that has gone is a line on stderr, status 1, and null in JSON, at the end."""
    dead = Target()
    dead.close()
    done = run("top", dead.pid, target.pid, "--json")
    assert (done.status, len(done.errors)) == (1, 1)
    assert [row["pid"] for row in done.objects] == [target.pid, dead.pid]
    assert (done.objects[1]["status"], done.objects[1]["cgroup"]) == (None, None)


def test_a_kernel_thread() -> None:
    """A kernel thread that is given has no memory, and is no error."""
    [found] = ranked(proc.kthreadd())
    assert found["status"]["rss"] == 0


@pytest.mark.parametrize(
    "option", ["--cgroup=/pmadvise/none", "--tree=2147483647", "--name=no-such-name"]
)
def test_no_target(option: str) -> None:
    """That nothing is found is one line and status 1."""
    done = run("top", option)
    assert (done.status, done.out, len(done.errors)) == (1, "", 1)


def test_more_processes_than_descriptors(crowd: list[int]) -> None:
    """Each process is there, however many there are: none is kept open."""
    done = run_with_descriptors(FEW, "top", "--json", "--tree", crowd[0])
    assert (done.status, done.err) == (0, "")
    found = done.objects
    assert {row["pid"] for row in found} == {*crowd}


def as_nobody_where_proc_hides(
    *arguments: str, others: bool = True
) -> tuple[int, str, str]:
    """Run `top` by a user of whose processes /proc shows the command and one more.

    Args:
        *arguments: Of `top`; "PID" is the other process.
        others: Whether there is one.
    """
    run_here("top", os.getppid())  # loads what nobody may not be able to read

    def as_nobody() -> tuple[int, str, str]:
        mount_proc("hidepid=2")
        become_nobody_with(user=60_000 + os.getpid() % 5_000)  # whom no other test is
        pid = os.fork() if others else os.getpid()
        if pid == 0:
            signal.pause()
        try:
            return run_here("top", *(str(pid) if a == "PID" else a for a in arguments))
        finally:
            if others:
                os.kill(pid, signal.SIGKILL)

    found: tuple[int, str, str] = value_of_child(as_nobody)
    return found


@pytest.mark.needs_mounts
@pytest.mark.parametrize("option", ["--json", ""])
def test_hidden_processes(option: str) -> None:
    """That /proc hides processes of the host is one line, and no failure."""
    status, out, err = as_nobody_where_proc_hides(*option.split())
    assert (status, (out + err).count("some processes are left out: ")) == (0, 1)
    assert (err == "") is (option == "")


@pytest.mark.needs_mounts
def test_hidden_processes_are_not_asked_for() -> None:
    """Where one process is wanted, that others are hidden is none of its business."""
    status, out, err = as_nobody_where_proc_hides("PID")
    assert (status, "hidepid" in out, err) == (0, False, "")


@pytest.mark.needs_mounts
def test_all_are_hidden() -> None:
    """That no process can be seen is an error, beside what hides them."""
    status, out, err = as_nobody_where_proc_hides(others=False)
    assert (status, out.count("some processes are left out: ")) == (1, 1)
    assert err == "pmadvise: no process can be seen but this command\n"


def test_looks_again(target: Target) -> None:
    """A later look has the CPU time since, members that are new, none that has gone."""
    ranking = Ranking(Wanted(trees=(target.pid,)), "cpu", is_watch=True)
    assert [row.share for row in ranking.rows] == [None]
    for _ in range(4):
        target.run(A_TICK)
    child = target.run("fork()")
    ranking.look()
    shares = {row.target.pid: row.share for row in ranking.rows}
    os.kill(child, signal.SIGKILL)
    assert list(shares) == [target.pid, child]
    assert shares[child] is None
    assert (shares[target.pid] or 0) > 0
    target.run(f"os.waitpid({child}, 0)")
    ranking.look()
    assert [row.target.pid for row in ranking.rows] == [target.pid]


def test_no_later_process(target: Target) -> None:
    """A process that has got the ID meanwhile is not the target."""
    ranking = Ranking(Wanted(pids=(target.pid,)), "rss", is_watch=True)
    [row] = ranking.rows
    assert row.target.status is not None
    started = row.target.status.started
    row.target.status = replace(row.target.status, started=started - 1)
    ranking.look()
    [later] = ranking.rows
    assert (later.target.status, later.cgroup) == (None, None)
    assert "has exited" in str(later.target.error)
    assert ranking.is_over
