"""`pmadvise show`: its numbers are those of /proc, in any terminal."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import proc
from helpers.command import run
from helpers.targets import GIB, MIB, PAGE, Target

import pmadvise

KEYS = ["pid", "name", "status", "mappings"]
MAPPING_KEYS = ["start", "end", "perms", "path", "size", "resident", "swapped"]

pytestmark = pytest.mark.needs_root


def shown(target: Target) -> dict[str, Any]:
    [found] = run("show", target.pid, "--json").objects
    return found


def test_keys(target: Target) -> None:
    """JSON has the keys of the contract, in its order."""
    found = shown(target)
    assert list(found) == KEYS
    assert [list(one) for one in found["mappings"]] == [MAPPING_KEYS] * len(
        found["mappings"]
    )


def test_totals_are_those_of_proc(target: Target) -> None:
    """The totals are those of /proc/PID/status, to the byte."""
    target.filled(8 * MIB)
    status = shown(target)["status"]
    assert (status["rss"], status["swap"], status["anonymous"]) == (
        target.status("VmRSS"),
        target.status("VmSwap"),
        target.status("RssAnon"),
    )


def test_mappings_are_those_of_proc(target: Target) -> None:
    """Every line of /proc/PID/maps is there, in its order."""
    lines = Path(f"/proc/{target.pid}/maps").read_text().split("\n")[:-1]
    found = [
        f"{one['start']:08x}-{one['end']:08x} {one['perms']}"
        for one in shown(target)["mappings"]
    ]
    assert found == [" ".join(line.split()[:2]) for line in lines]


def test_bytes_of_a_mapping_are_those_of_smaps(target: Target) -> None:
    """Each mapping has in memory what smaps has as Rss."""
    address = target.touched("range(0, 64, 2)", 64)
    [found] = [one for one in shown(target)["mappings"] if one["start"] == address]
    assert found["resident"] == target.smaps(address, "Rss") == 32 * PAGE
    assert (found["size"], found["swapped"]) == (64 * PAGE, 0)


@pytest.mark.needs_swap
def test_swap_is_seen(target: Target) -> None:
    """What was paged out stands as swapped."""
    address = target.filled(4 * MIB)
    target.filled(MIB)  # so that the last pages touched are others
    with pmadvise.Process(target.pid) as process:
        process.pageout([(address, 4 * MIB)])
    [found] = [one for one in shown(target)["mappings"] if one["start"] == address]
    assert found["swapped"] == target.smaps(address, "Swap") > 0
    assert found["resident"] == target.smaps(address, "Rss")


def test_reserved_memory_costs_no_cells(target: Target) -> None:
    """Terabytes that are reserved and empty leave the picture its use."""
    target.reserved(1024 * GIB)
    target.filled(16 * MIB)
    out = run("show", target.pid).out
    rows = re.findall(r"^0x\w+ (.+)$", out, re.MULTILINE)
    assert 1 <= len(rows) <= 12
    assert "".join(rows).count("█") > len("".join(rows)) // 2


def test_groups(target: Target) -> None:
    """Without --all a file has one row, heap and stack are named, and sums are true."""
    out = run("show", target.pid, COLUMNS="200").out
    names = [line.split()[-1] for line in out.split("\n") if line.strip()]
    libc = [name for name in names if "/libc.so" in name or "/libc-" in name]
    assert len(libc) == 1
    assert {"heap", "stack", "anonymous"} <= set(names)


def test_all(target: Target) -> None:
    """With --all every mapping has a row, found by its address."""
    out = run("show", target.pid, "--all").out
    lines = Path(f"/proc/{target.pid}/maps").read_text().split("\n")[:-1]
    starts = [f"{int(line.partition('-')[0], 16):012x}" for line in lines]
    rows = [line for line in out.split("\n") if re.match(r"[0-9a-f]{12,} ", line)]
    assert [row.split()[0] for row in rows] == starts


@pytest.mark.parametrize("columns", [80, 100, 160])
@pytest.mark.parametrize("option", ["--all", ""])
def test_width(target: Target, columns: int, option: str) -> None:
    """No line is longer than the terminal is wide."""
    out = run("show", target.pid, *option.split(), COLUMNS=str(columns)).out
    assert max(map(len, out.split("\n"))) <= columns


@pytest.mark.parametrize(
    "variables", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}], ids=repr
)
def test_ascii(target: Target, tmp_path: Path, variables: dict[str, str]) -> None:
    """Where the output is ASCII, all of it is, names too."""
    path = tmp_path / "größe"
    path.write_bytes(bytes(PAGE))
    target.mapped_file(path, PAGE)
    done = run("show", target.pid, **variables)
    assert (done.status, done.out.isascii()) == (0, True)
    assert max(map(len, done.out.split("\n"))) <= 80
    assert "#" in done.out


def test_a_dead_target(target: Target) -> None:
    """One that has gone is a line on stderr and status 1; the others are shown."""
    dead = Target()
    dead.close()
    done = run("show", dead.pid, target.pid, "--json")
    assert (done.status, len(done.errors)) == (1, 1)
    assert [one["pid"] for one in done.objects] == [dead.pid, target.pid]
    assert done.objects[0]["status"] is None


def test_kernel_thread() -> None:
    """A kernel thread has a status, and no memory: one line, status 1."""
    done = run("show", proc.kthreadd(), "--json")
    assert (done.status, len(done.errors)) == (1, 1)
    assert done.objects[0]["mappings"] is None
    assert "kernel thread" in done.err


def test_tree(target: Target) -> None:
    """--tree shows a process and its descendants, each once."""
    child = target.run("fork()")
    try:
        done = run("show", "--tree", target.pid, target.pid, "--json")
        assert [one["pid"] for one in done.objects] == [target.pid, child]
    finally:
        os.kill(child, 9)


def test_quiet(target: Target) -> None:
    """--quiet shows errors alone."""
    done = run("show", target.pid, "--quiet")
    assert done == (0, "", "")
