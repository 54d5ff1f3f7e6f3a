"""Streams that are closed, full, or non-blocking: nothing is lost in silence."""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import COMMAND, environment
from helpers.forks import Done
from helpers.needs import ROOT
from helpers.targets import PAGE, Target
from helpers.waiting import until

SELFTEST = (sys.executable, "-m", "pmadvise.selftest", "--only", "maps")
VERBS = ("top", "show", "cold", "pageout", "willneed", "collapse", "check")

pytestmark = pytest.mark.needs_root


def shell(redirection: str, *command: object) -> Done:
    """Run a command with its streams redirected by a shell."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *map(str, command)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["--json", ""])
@pytest.mark.parametrize(
    ("redirection", "why"),
    [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")],
)
def test_no_results(
    target: Target, verb: str, option: str, redirection: str, why: str
) -> None:
    """Results that can't be written are status 1, and a line on stderr."""
    target.filled(PAGE)
    done = shell(redirection, *COMMAND, verb, target.pid, *option.split())
    assert (done.status, done.errors[-1]) == (1, f"pmadvise: stdout: {why}")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("show", "--help")], ids=" ".join
)
def test_no_help(arguments: tuple[str, ...]) -> None:
    """The help counts as a result too."""
    assert shell(">/dev/full", *COMMAND, *arguments).status == 1


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_no_errors(target: Target, redirection: str) -> None:
    """Without stderr the results are written, and each exit status is kept."""
    dead = Target()
    dead.close()
    done = shell(redirection, *COMMAND, "cold", "--json", dead.pid, target.pid)
    assert [found["pid"] for found in done.objects] == [dead.pid, target.pid]
    assert done.status == 1
    assert shell(redirection, *COMMAND, "cold", "--json", target.pid).status == 0
    assert shell(redirection, *COMMAND, "cold").status == 2
    assert shell(redirection, *COMMAND, "cold", "1", "--timeout", "x").status == 2


def test_no_streams(target: Target) -> None:
    """Without any stream the target is advised all the same, and nothing is told."""
    redirection = "<&- >&- 2>&-"
    assert shell(redirection, *COMMAND, "cold", "--quiet", target.pid).status == 0
    assert shell(redirection, *COMMAND, "cold", target.pid).status == 1


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_selftest_without_errors(redirection: str) -> None:
    """The selftest prints its results where stderr can't be written."""
    done = shell(redirection, *SELFTEST)
    assert (done.status, done.out.split(" ")[:2]) == (0, ["ok", "maps"])
    assert shell(redirection, *SELFTEST, "--nothing").status == 2


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("option", ["--json", "--list", ""])
def test_selftest_without_results(redirection: str, option: str) -> None:
    """The selftest fails where its results can't be written, with a line."""
    done = shell(redirection, *SELFTEST, *option.split())
    assert (done.status, len(done.errors)) == (1, 1)


@pytest.fixture
def many(target: Target) -> Target:
    """A target with so many mappings that a pipe does not take the JSON of them."""
    address = target.map(4000 * PAGE)
    target.run(
        f"[protect({address} + i * PAGE, PAGE, READ) for i in range(0, 4000, 2)]"
    )
    return target


def test_non_blocking(many: Target) -> None:
    """A pipe that does not block, as ssh and node hand over, gets all of the text."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    command = [*COMMAND, "show", "--json", str(many.pid)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=writer
    ) as running:
        os.close(writer)
        # All of it is more than the pipe takes in one write.
        with os.fdopen(reader, "rb") as file:
            text = file.read()
    found = json.loads(text)
    assert (running.returncode, len(found["mappings"]) > 4000) == (0, True)


@pytest.mark.parametrize("flags", [0, os.O_NONBLOCK], ids=["blocking", "non-blocking"])
def test_ctrl_c_ends_a_wait(many: Target, flags: int) -> None:
    """Ctrl-C while nobody reads ends the command, once and without a traceback."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, flags)
    with subprocess.Popen(
        [*COMMAND, "show", "--json", str(many.pid)],
        cwd=ROOT,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
    ) as running:
        os.close(writer)
        capacity = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
        until(lambda: pending(reader) == capacity)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
        os.close(reader)
    assert (running.returncode, errors.strip()) == (130, b"")


def pending(pipe: int) -> int:
    """Return the bytes that wait in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_a_reader_that_leaves_ends_a_watch(target: Target) -> None:
    """`show --watch | head` ends."""
    command = [*COMMAND, "show", "--watch", "1ms", "--json", str(target.pid)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        running.stdout.close()
        assert running.wait(60) == 1


LOADING = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pmadvise", "pmadvise._streams"),
        ("pmadvise", "click"),
        ("pmadvise", "pmadvise.command.show"),
        ("pmadvise", "rich.console"),
        ("pmadvise.selftest", "pmadvise._streams"),
        ("pmadvise.selftest", "pmadvise.selftest.checks"),
    ],
)
def test_interrupted_while_it_loads(tmp_path: Path, module: str, name: str) -> None:
    """Ctrl-C before it has loaded is status 130, without a traceback."""
    (tmp_path / "sitecustomize.py").write_text(LOADING.format(name=name))
    done = subprocess.run(
        [sys.executable, "-m", module, *(("show", "1") if "." not in module else ())],
        cwd=ROOT,
        env=environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == ""


def ignore_sigchld() -> None:
    """Ignore SIGCHLD, which a program inherits."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


@pytest.mark.parametrize("before", [ignore_sigchld], ids=["SIGCHLD"])
def test_ignored_signal(before: Callable[[], None]) -> None:
    """A caller that ignores SIGCHLD gets the results of the selftest too."""
    done = subprocess.run(
        [*SELFTEST, "--only", "host,resident"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=before,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n3 passed, 0 failed, 0 skipped\n" in done.stdout
