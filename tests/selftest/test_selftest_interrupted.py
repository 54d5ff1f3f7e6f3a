"""A selftest that is interrupted, or killed, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import proc
from helpers.selftest_runs import Run
from helpers.waiting import until

from pmadvise import selftest
from pmadvise._support import host


def left_behind(selftest: int) -> tuple[list[str], list[int]]:
    """Return the cgroups and the processes that there still are of a selftest."""
    directories = {directory for _, directory in host.freezer_directories()}
    cgroups = [
        str(path)
        for directory in directories
        for path in Path(directory).glob(f"**/pmadvise-selftest-{selftest}")
    ]
    return cgroups, proc.session(selftest)


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a selftest in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "pmadvise.selftest", "--size", "5", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )


def read_until(process: subprocess.Popen[str], name: str) -> str:
    """Return what a selftest prints up to the result of a check."""
    assert process.stdout is not None
    printed = ""
    while f" {name} - " not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    return printed


def check_before(name: str) -> str:
    """Return the check that is made before another one."""
    names = list(selftest.CHECKS)
    return names[names.index(name) - 1]


@pytest.mark.parametrize("everyone", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "during", ["maps", "pageout_file", "exec", "hold_ptrace", "hold_freezer"]
)
def test_interrupted(
    tmp_path: Path, during: str, number: signal.Signals, everyone: bool
) -> None:
    """A signal during a check ends it with 128 + its number, and nothing is left."""
    before = check_before(during)
    process = start("--only", f"{before},{during}", TMPDIR=str(tmp_path))
    printed = read_until(process, before)
    if everyone:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert errors == f"interrupted by {number.name}\n"
    done = Run(process.returncode, printed + rest)
    assert (done.verdict, set(done.checks) >= {before}) == ("", True)
    assert list(tmp_path.iterdir()) == []
    until(lambda: left_behind(process.pid) == ([], []), "nothing is left")


@pytest.mark.needs_root
@pytest.mark.parametrize("during", ["cold", "hold_sigstop"])
def test_killed(during: str) -> None:
    """Even SIGKILL leaves no child: they end with their parent."""
    process = start()
    read_until(process, check_before(during))
    process.kill()
    process.communicate(timeout=120)
    until(lambda: left_behind(process.pid)[1] == [], "the children have ended")
