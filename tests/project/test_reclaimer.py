"""docs/examples/reclaimer: the daemons of the guide, at work on real processes."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from helpers.command import IMPORT_PATH, environment
from helpers.hold_targets import cgroup_of
from helpers.needs import ROOT
from helpers.targets import MIB, Target
from helpers.waiting import until, wait_for_state

FOLDER = ROOT / "docs/examples/reclaimer"
SIZE = 64 * MIB
BLANK = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}

each = pytest.mark.parametrize("name", ["reclaimer", "by_asyncio"])


@contextmanager
def daemon(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a daemon."""
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / f"{name}.py"), *map(str, arguments)],
        env=environment(PYTHONPATH=IMPORT_PATH),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def is_away(target: Target) -> bool:
    """Return whether the memory of a process is in swap."""
    return target.status("VmSwap") > SIZE * 0.9


@pytest.mark.slow
@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@each
def test_an_idle_process_is_paged_out(
    target: Target, name: str, number: signal.Signals
) -> None:
    """A process that uses no CPU time is in swap soon, and a signal ends the daemon."""
    area = target.filled(SIZE)
    wait_for_state(target.pid, "S")
    with daemon(name, target.pid, 0.1) as process:
        until(lambda: is_away(target), "the memory is in swap")
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    pairs = [line.split() for line in out.splitlines()]
    assert {pid for pid, _ in pairs} == {str(target.pid)}
    assert sum(int(advised) for _, advised in pairs) > SIZE * 0.9
    assert target.intact(area, SIZE)


@pytest.mark.slow
@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
@each
def test_a_busy_process_stays(target: Target, name: str) -> None:
    """Of a cgroup, a process that uses CPU time is left alone."""
    with cgroup_of(2) as cgroup:
        busy = Target()
        try:
            for process in target, busy:
                process.filled(SIZE)
                cgroup.add(process.pid)
            busy.run_detached("all(True for _ in iter(int, 1))")  # for ever
            with daemon(name, cgroup.path, 1):
                until(lambda: is_away(target), "the memory of the idle one is in swap")
                assert busy.status("VmSwap") == 0
        finally:
            busy.close()


@each
def test_a_wrong_group_is_told(name: str) -> None:
    """A cgroup that does not exist ends a daemon with the reason."""
    with daemon(name, "/no-such-cgroup", 0.01) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "there is no cgroup '/no-such-cgroup'" in errors


@each
def test_has_forty_lines(name: str) -> None:
    """The title of the page counts lines of code, without comments and docstrings."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    lines = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in BLANK and not token.string.startswith('"""')
    }
    assert len(lines) <= 41  # the last is the end of the file
