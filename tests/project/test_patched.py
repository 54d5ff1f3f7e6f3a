"""Interpreters patched by gevent or eventlet: all works there."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.hold_targets import cgroup_of

PROGRAM = """
import faulthandler, os, subprocess, sys, warnings
faulthandler.dump_traceback_later(60, exit=True)
warnings.simplefilter("ignore")
{first}
{patch}
import pmadvise
target = subprocess.Popen(["sleep", "1000"])
{move}
with pmadvise.Process(target.pid) as process:
    for method in {methods}:
        for _ in range(3):
            with process.hold(method, 20) as hold:
                assert hold.method == method
                state = process.status().state
            assert hold.broken is None, hold.broken
    report = process.cold(process.maps().select(anonymous=True))
    assert report.ended in ("complete", "refused"), report
    assert not process.wait(0)
    assert not process.wait(0.01)
    {later}(0.05, target.kill)  # by a greenlet, so wait() must let it run
    assert process.wait(60)
    target.wait()
with pmadvise.Pressure(stall=2.0) as pressure:
    assert not pressure.wait(0.01)
print("done")
os._exit(0)
"""
PATCHES = {
    "gevent": ("import gevent.monkey; gevent.monkey.patch_all()", "gevent.spawn_later"),
    "eventlet": ("import eventlet; eventlet.monkey_patch()", "eventlet.spawn_after"),
}
FIRSTS = ["", "import pmadvise; pmadvise.Process, pmadvise.Hold"]


def run(name: str, first: str, methods: list[str], move: str = "") -> str:
    """Run the program with a patch, and return what it prints."""
    patch, later = PATCHES[name]
    text = PROGRAM.format(
        first=first, patch=patch, later=later, methods=methods, move=move
    )
    return subprocess.run(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    ).stdout


@pytest.mark.needs_root
@pytest.mark.parametrize("first", FIRSTS, ids=["patched first", "imported first"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs_tool(name)) for name in PATCHES],
)
def test_patched(name: str, first: str) -> None:
    """Handles, holds, waits and triggers work, before and after it is patched."""
    assert run(name, first, ["ptrace", "sigstop"]) == "done\n"


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs_tool(name)) for name in PATCHES],
)
def test_patched_freezer(name: str) -> None:
    """The watchdog of the freezer is started and reaped by the hold alone."""
    with cgroup_of(2) as cgroup:
        path = str(cgroup.path / "cgroup.procs")
        move = f"open({path!r}, 'w').write(str(target.pid))"
        assert run(name, "", ["freezer"], move) == "done\n"
