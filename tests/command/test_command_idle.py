"""--idle: only memory that is not touched meanwhile is advised."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from helpers.children import value_of_child
from helpers.command import run, run_with_descriptors, terminal
from helpers.privileges import become_nobody
from helpers.targets import MIB, SHELL, Target, exec_shell

from pmadvise import Process
from pmadvise.command import app, idle

SIZE = 8 * MIB
FEW = 40
"""File descriptors: not enough for many targets."""

pytestmark = pytest.mark.needs_root


class Memory(NamedTuple):
    """A process, and the addresses of what it touches and of what it does not."""

    target: Target
    hot: int
    cold: int

    def command(self, advice: str, *more: object) -> tuple[object, ...]:
        """Return the arguments for these two areas."""
        areas = [f"--range={area:x}-{area + SIZE:x}" for area in (self.hot, self.cold)]
        return (advice, self.target.pid, "--anon", *areas, *more)


@pytest.fixture
def memory(target: Target) -> Memory:
    """Memory of which one area is touched again and again."""
    hot, cold = (target.run(f"map({SIZE + 2 * MIB})") for _ in range(2))
    hot, cold = (-(-area // (2 * MIB)) * 2 * MIB for area in (hot, cold))
    for area in (hot, cold):
        target.run(f"fill({area}, {SIZE})")
    target.run(f"forever(lambda: (touch({hot}, [5]), time.sleep(0.001)))")
    return Memory(target, hot, cold)


def only(done: Any) -> dict[str, Any]:
    """Return the object of the only target, which is advised."""
    [found] = done.objects
    assert (done.status, done.err, found["error"]) == (0, "", None)
    return dict(found)


@pytest.mark.parametrize("advice", ["cold", "collapse"])
@pytest.mark.parametrize("option", ["--dry-run", ""])
def test_only_idle_memory(memory: Memory, advice: str, option: str) -> None:
    """Of two mappings the one that is touched is left alone."""
    more = ("--idle", "300ms", "--json", *option.split())
    found = only(run(*memory.command(advice, *more)))
    assert (found["requested"], found["advised"]) == (SIZE, SIZE)
    assert found["idle"]["seconds"] == 0.3
    assert found["idle"]["bytes"] >= SIZE


@pytest.mark.needs_swap
def test_idle_memory_is_paged_out(memory: Memory) -> None:
    """It is the idle mapping that goes to swap."""
    run(*memory.command("pageout", "--idle", "300ms"))
    assert memory.target.smaps(memory.cold, "Swap") >= SIZE * 0.9
    assert memory.target.smaps(memory.hot, "Swap") == 0


def test_default_selection(memory: Memory) -> None:
    """Without a selection it is the default one of the advice, where it is idle."""
    whole = only(run("cold", memory.target.pid, "--json", "--dry-run"))
    found = only(run("cold", memory.target.pid, "--json", "--dry-run", "--idle=300ms"))
    assert SIZE <= found["requested"] <= whole["requested"] - SIZE


def test_nothing_is_idle(memory: Memory) -> None:
    """If nothing of the selection is idle, the command says so: that is no failure."""
    area = f"--range={memory.hot:x}-{memory.hot + SIZE:x}"
    done = run("cold", memory.target.pid, area, "--idle", "300ms")
    assert (done.status, done.err) == (0, "")
    text = " ".join(done.out.split())
    assert "nothing to advise: none of what is selected was not touched" in text


def test_source_is_told(memory: Memory) -> None:
    """The source, and what it tells apart, are told: in words, and as JSON."""
    with Process(memory.target.pid) as process, process.track() as tracker:
        source, grain = tracker.source, tracker.grain
    text = " ".join(run(*memory.command("cold", "--idle", "300ms")).out.split())
    assert idle.grain_of(source, grain) in text
    found = only(run(*memory.command("cold", "--idle", "300ms", "--json")))["idle"]
    assert list(found) == ["seconds", "source", "grain", "bytes", "unknown"]
    assert (found["source"], found["grain"]) == (source, grain)


def test_without_it(target: Target) -> None:
    """Without --idle the key is null."""
    assert only(run("cold", target.pid, "--json"))["idle"] is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("willneed", "--idle", "1s"), "willneed reads what is not"),
        (("cold", "--idle", "1s", "--shared"), "shared"),
        (("cold", "--idle", "0s"), "more than 0 seconds"),
        (("cold", "--idle", "10"), "unit"),
    ],
    ids=str,
)
def test_wrong_usage(target: Target, arguments: tuple[str, ...], why: str) -> None:
    """What can't be meant is one line of wrong usage, and nobody is watched for it."""
    done = run(*arguments, target.pid)
    assert (done.status, done.out, len(done.errors)) == (2, "", 1)
    assert why in done.err


def test_somebody_else_tracks_it(memory: Memory) -> None:
    """A target that another tracker has is an error of it, and the others go on."""
    other = Target()
    try:
        with Process(other.pid) as process, process.track("mappings"):
            arguments = ("cold", other.pid, memory.target.pid)
            done = run(*arguments, "--idle=300ms", "--json")
    finally:
        other.close()
    refused, found = done.objects
    assert (done.status, len(done.errors)) == (1, 1)
    assert refused["error"]["errno"] == errno.EBUSY
    assert "another Tracker" in done.err
    assert (found["error"], found["advised"] >= SIZE) == (None, True)


def test_without_rights(target: Target) -> None:
    """A stranger gets one line, about the right that is missing."""

    def as_nobody() -> tuple[int, str]:
        become_nobody()
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            status = app.run(["cold", str(target.pid), "--idle", "10ms"])
        return status, errors.getvalue()

    # loads all modules, rich's too, which nobody may not be able to read
    assert app.run(["cold", str(target.pid), "--idle", "10ms", "--quiet"]) == 0
    status, text = value_of_child(as_nobody)
    assert (status, text.count("\n")) == (1, 1)
    assert "CAP_SYS_PTRACE" in text


@pytest.fixture
def child(target: Target) -> Iterator[int]:
    """A child of the target."""
    pid = target.run("fork()")
    yield pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("by_tree", "status"), [(True, 0), (False, 1)])
def test_one_that_ends_meanwhile(
    target: Target, child: int, by_tree: bool, status: int
) -> None:
    """One that ends while it is watched is a failure only if its PID was given."""
    targets = ("--tree", target.pid) if by_tree else (target.pid, child)
    with terminal("cold", *targets, "--idle", "1500ms", size=(24, 200)) as running:
        running.read_until(lambda output: b"s/1.5s" in output)
        os.kill(child, signal.SIGKILL)
        assert running.finish() == status
    assert b"Traceback" not in running.output


def test_an_exec_meanwhile(target: Target) -> None:
    """One that executes another program is not advised: an error, and status 1."""
    arguments = ("cold", target.pid, "--anon", "--idle", "1500ms")
    with terminal(*arguments, size=(24, 200)) as running:
        running.read_until(lambda output: b"s/1.5s" in output)
        exec_shell(target)
        assert running.finish() == 1
    assert os.readlink(f"/proc/{target.pid}/exe") == SHELL
    assert b"executed another program" in running.output


def test_interrupt(memory: Memory) -> None:
    """Ctrl-C ends the watch at once: status 130, and nothing was advised."""
    with terminal(*memory.command("cold", "--idle=1h", "--json")) as running:
        running.read_until(lambda output: b"s/60m00s" in output)
        running.interrupt()
        assert running.finish() == 130
    [line] = re.findall(rb"{\"pid\".*}", running.output)
    found = json.loads(line)
    assert (found["ended"], found["advised"], found["calls"]) == ("cancelled", 0, 0)
    with Process(memory.target.pid) as process, process.track("mappings"):
        pass


def test_no_bar_for_a_pipe(target: Target) -> None:
    """Where stderr is no terminal nothing is drawn."""
    assert run("cold", target.pid, "--idle", "100ms").err == ""


def test_too_few_descriptors(target: Target) -> None:
    """Targets beyond the limit of descriptors are told of, and the others advised."""
    children = [target.run("fork()") for _ in range(30)]
    try:
        arguments = ("cold", "--idle=100ms", "--json", "--tree", target.pid)
        done = run_with_descriptors(FEW, *arguments)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
    found = done.objects
    errors = [row["error"] for row in found if row["error"] is not None]
    assert (done.status, len(found)) == (1, 31)
    assert 0 < len(errors) < 31
    assert {error["errno"] for error in errors} == {errno.EMFILE}
    assert "ulimit -n" in done.err
