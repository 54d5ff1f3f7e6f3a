"""The contract of --json and of the exit status, for the advices."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import proc
from helpers.command import run
from helpers.targets import MIB, PAGE, Target

KEYS = [
    *("pid", "name", "advice", "dry_run", "requested", "advised", "skipped"),
    *("not_tried", "ended", "calls", "elapsed", "longest_call", "before", "after"),
    *("remaining", "touched", "idle", "error"),
]
STATUS_KEYS = [
    *("name", "uid", "parent", "state", "threads", "rss", "anonymous", "file"),
    *("shmem", "swap", "locked", "cpu", "major_faults", "started"),
]
ADVICES = ("cold", "pageout", "willneed", "collapse")

pytestmark = pytest.mark.needs_root


@pytest.fixture
def other() -> Iterator[Target]:
    """A second process."""
    process = Target()
    yield process
    process.close()


@pytest.fixture
def dead() -> int:
    """The ID of a process that has gone."""
    process = Target()
    process.close()
    return process.pid


def is_exact(found: dict[str, Any]) -> bool:
    """Return whether every byte asked for is accounted for."""
    skipped = sum(skip["length"] for skip in found["skipped"])
    rest = found["requested"] - found["advised"] - skipped
    return bool(rest == found["not_tried"])


@pytest.mark.parametrize("advice", ADVICES)
@pytest.mark.parametrize("option", ["--dry-run", ""])
def test_keys(target: Target, advice: str, option: str) -> None:
    """An object has the keys of the contract, in its order."""
    target.filled(4 * MIB)
    done = run(advice, target.pid, "--json", *option.split())
    [found] = done.objects
    assert list(found) == KEYS
    assert list(found["before"]) == STATUS_KEYS
    assert found["advice"] == f"MADV_{advice.upper()}"
    assert (found["dry_run"], found["pid"]) == (bool(option), target.pid)
    assert is_exact(found)


def test_skipped(target: Target) -> None:
    """A range that is refused has address, length, errno and reason; status 1."""
    address = target.filled(PAGE)
    target.run(f"lock({address}, PAGE)")
    done = run("pageout", target.pid, "--json")
    [found] = done.objects
    assert [list(skip) for skip in found["skipped"]] == [
        ["address", "length", "errno", "reason"]
    ]
    [skip] = found["skipped"]
    assert (skip["address"], skip["length"], skip["errno"]) == (
        address,
        PAGE,
        errno.EINVAL,
    )
    assert (is_exact(found), done.status) == (True, 1)


def test_three_targets_one_dead(target: Target, other: Target, dead: int) -> None:
    """Each target has its line, in the order given, and the dead one its error."""
    for one in (target, other):
        one.filled(4 * MIB)
    done = run("cold", target.pid, dead, other.pid, "--json")
    assert [one["pid"] for one in done.objects] == [target.pid, dead, other.pid]
    assert [list(one) for one in done.objects] == [KEYS] * 3
    assert all(is_exact(one) for one in done.objects)
    assert [one["advised"] >= 4 * MIB for one in done.objects] == [True, False, True]
    first, second, third = (one["error"] for one in done.objects)
    assert (first, third) == (None, None)
    assert (list(second), second["errno"]) == (["errno", "message"], errno.ESRCH)
    assert (done.status, len(done.errors)) == (1, 1)


@pytest.mark.parametrize("selection", [(), ("--anon",)], ids=str)
def test_one_budget(target: Target, other: Target, selection: tuple[str, ...]) -> None:
    """Targets share one budget, with a selection and without; using it up is all."""
    for one in (target, other):
        one.filled(4 * MIB)
    least = run("cold", target.pid, "--json", *selection).objects[0]["advised"]
    budget = least + 2 * MIB
    done = run(
        "cold", target.pid, other.pid, "--json", f"--budget={budget}", *selection
    )
    assert sum(one["advised"] for one in done.objects) == budget
    assert [one["ended"] for one in done.objects] == ["complete", "budget"]
    assert done.status == 0


def test_budget_of_a_share(target: Target) -> None:
    """N% is of VmRSS."""
    target.filled(32 * MIB)
    rss = target.status("VmRSS")
    [found] = run("cold", target.pid, "--json", "--budget", "50%").objects
    assert rss // 2 - PAGE < found["advised"] <= rss // 2


@pytest.mark.parametrize("selection", [(), ("--anon",)], ids=str)
def test_no_time(target: Target, selection: tuple[str, ...]) -> None:
    """A time that is over is not a success: nothing was tried."""
    target.filled(MIB)
    done = run("cold", target.pid, "--json", "--timeout", "0s", *selection)
    assert (done.objects[0]["ended"], done.status) == ("timeout", 1)


@pytest.mark.needs_swap
@pytest.mark.parametrize("selection", [(), ("--anon",)], ids=str)
def test_swap_floor(target: Target, selection: tuple[str, ...]) -> None:
    """A floor above the free swap leaves everything as it is; that is no success."""
    target.filled(MIB)
    before = target.status("VmSwap")
    done = run("pageout", target.pid, "--json", "--swap-floor", "1024T", *selection)
    assert (done.objects[0]["ended"], done.status) == ("budget", 1)
    assert target.status("VmSwap") == before


@pytest.mark.needs_swap
def test_pageout_moves_memory(target: Target) -> None:
    """What is reported is what /proc shows: memory went to swap."""
    target.filled(32 * MIB)
    done = run("pageout", target.pid, "--json")
    [found] = done.objects
    assert (done.status, found["ended"]) == (0, "complete")
    assert found["after"]["swap"] == target.status("VmSwap")
    assert found["after"]["swap"] - found["before"]["swap"] > 24 * MIB
    assert list(found["remaining"]) == ["resident", "shared"]


@pytest.mark.needs_swap
def test_shared_memory_is_reported(target: Target) -> None:
    """Memory that stays as it is shared has that reason."""
    target.filled(8 * MIB)
    children = [target.run("fork()") for _ in range(2)]
    try:
        done = run("pageout", target.pid)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    text = " ".join(done.out.split())
    assert "stayed in memory: shared with other processes" in text
    assert done.status == 0


def test_hold(target: Target) -> None:
    """A target that is held is advised all the same, and runs on."""
    target.filled(MIB)
    [found] = run("cold", target.pid, "--json", "--hold", "auto").objects
    assert (found["ended"], found["error"]) == ("complete", None)
    assert target.run("1 + 1") == 2


@pytest.mark.parametrize("advice", ADVICES)
def test_kernel_thread(advice: str) -> None:
    """A kernel thread is refused, with one line and status 1."""
    done = run(advice, proc.kthreadd(), "--json")
    assert (done.objects[0]["error"]["errno"], done.status) == (errno.ESRCH, 1)
    assert len(done.errors) == 1
    assert "kernel thread" in done.err


def test_a_thread_s_id(target: Target) -> None:
    """The ID of a thread is an error of its target, in one line."""
    done = run("cold", target.thread(), "--json")
    assert (done.status, len(done.errors)) == (1, 1)
    assert done.objects[0]["error"]["errno"] in (errno.EINVAL, errno.ENOENT)


@pytest.mark.parametrize("option", ["--cgroup=/pmadvise/none", "--tree=2147483647"])
def test_no_such_group(option: str) -> None:
    """A cgroup or a tree that is not there is one line and status 1."""
    done = run("cold", option)
    assert (done.status, done.out, len(done.errors)) == (1, "", 1)


def test_quiet(target: Target) -> None:
    """--quiet prints neither table nor warnings."""
    assert run("cold", target.pid, "--quiet") == (0, "", "")


def test_debug(dead: int) -> None:
    """--debug adds the traceback of an error."""
    assert "Traceback" in run("cold", dead, "--debug").err
    assert run("cold", dead).err == f"pmadvise: {dead}: there is no such process\n"


def test_check(target: Target) -> None:
    """The JSON of check is support() of the target."""
    pid = target.pid
    done = run("check", pid, "--json")
    [found] = done.objects
    assert (found["target"]["pid"], found["target"]["may"]["ok"]) == (pid, True)
    assert done.status == 0


def test_check_of_a_dead_process(dead: int) -> None:
    """A process that can't be advised fails the check, and the row says why."""
    done = run("check", dead, LC_ALL="C")
    assert done.status == 1
    rows = [line.split() for line in done.out.split("\n")]
    assert ["NO", "process", str(dead)] in [row[:3] for row in rows]


def test_check_has_a_row_for_each_answer(target: Target) -> None:
    """The rows tell of memory.reclaim and of the touch of pages, which need not be."""
    rows = run("check", target.pid, COLUMNS="200", LC_ALL="C").out.split("\n")
    [answer] = run("check", target.pid, "--json").objects
    for what, found in (
        ("memory.reclaim", answer["reclaim"]),
        ("touch of its pages", answer["target"]["touch"]),
        ("its memory.reclaim", answer["target"]["reclaim"]),
    ):
        text = "yes" if found["ok"] else found["reason"]
        mark = "ok" if found["ok"] else "!"
        assert [mark, *what.split(), *text.split()] in [row.split() for row in rows]
