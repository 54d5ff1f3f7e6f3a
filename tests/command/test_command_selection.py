"""Which memory the options of selection ask for, and what is refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.command import COMMAND, environment, run
from helpers.needs import ROOT
from helpers.targets import MIB, PAGE, Target

from pmadvise import Advice, Process, Ranges
from pmadvise.command import work
from pmadvise.command.app import app
from pmadvise.command.selection import Selection
from pmadvise.command.targets import Targets
from pmadvise.command.work import Order, Silence
from pmadvise.memory import Swap

pytestmark = pytest.mark.needs_root


class Memory:
    """Memory of each kind in a target: 64 pages each, half of them in memory."""

    def __init__(self, target: Target, path: Path) -> None:
        path.write_bytes(bytes(64 * PAGE))
        half = "range(0, 64, 2)"
        self.anon = target.touched(half)
        self.file = target.mapped_file(path, 64 * PAGE)
        self.shared = target.run(f"map({64 * PAGE}, flags=SHARED|ANONYMOUS)")
        for address in (self.file, self.shared):
            target.run(f"touch({address}, {half})")

    def of(self, ranges: Ranges) -> set[str]:
        """Return the kinds that ranges touch."""
        kinds = {"anon": self.anon, "file": self.file, "shared": self.shared}
        return {
            kind
            for kind, address in kinds.items()
            if len(ranges & Ranges([(address, 64 * PAGE)]))
        }


@pytest.fixture
def memory(target: Target, tmp_path: Path) -> Memory:
    """Memory of each kind."""
    return Memory(target, tmp_path / "data")


def selected(selection: Selection, process: Process) -> Ranges:
    """Return the ranges of a selection that is not the default one."""
    ranges = selection.of(process, Advice.COLD)
    assert ranges is not None
    return ranges


@pytest.mark.parametrize(
    ("selection", "kinds"),
    [
        (Selection(anon=True), {"anon"}),
        (Selection(file=True), {"file"}),
        (Selection(shared=True), {"shared"}),
        (Selection(anon=True, shared=True), {"anon", "shared"}),
        (Selection(paths=("*/data",)), {"file"}),
        (Selection(paths=("*/data", "/dev/zero*")), {"file", "shared"}),
        (Selection(anon=True, paths=("*/data",)), set()),
        (Selection(min_size=64 * PAGE), {"anon"}),
        (Selection(min_size=1 << 40), set()),
    ],
    ids=lambda value: repr(sorted(value) if isinstance(value, set) else value),
)
def test_kinds(
    process: Process, memory: Memory, selection: Selection, kinds: set[str]
) -> None:
    """Kinds add up; a path and a size narrow them."""
    assert memory.of(selected(selection, process)) == kinds


def test_the_default_is_left_to_the_advice(process: Process) -> None:
    """Without an option of selection the package selects."""
    assert Selection().of(process, Advice.COLD) is None


def test_only_what_is_in_memory(process: Process, memory: Memory) -> None:
    """Of mappings that are chosen by kind, cold takes what is in memory."""
    chosen = selected(Selection(anon=True), process)
    assert (chosen & Ranges([(memory.anon, 64 * PAGE)])).total == 32 * PAGE


def test_ranges_as_given(process: Process, memory: Memory) -> None:
    """Ranges alone are asked as given, in memory or not, in their order."""
    given = ((memory.file, 64 * PAGE), (memory.anon, PAGE), (memory.anon, PAGE))
    assert Selection(ranges=given).of(process, Advice.COLD) == Ranges(given)


def test_ranges_narrow_a_kind(process: Process, memory: Memory) -> None:
    """With a kind they narrow it."""
    selection = Selection(anon=True, ranges=((memory.anon, 4 * PAGE),))
    assert selected(selection, process).total == 2 * PAGE


def test_process_1_is_refused() -> None:
    """Process 1 is left alone, in one line, and without being asked anything."""
    done = run("pageout", 1, "--json")
    assert (done.status, len(done.errors)) == (1, 1)
    [found] = done.objects
    assert (found["error"]["errno"], found["calls"]) == (errno.EPERM, 0)
    assert "--force" in done.err


def test_itself_is_refused() -> None:
    """The command does not page itself out."""
    # exec keeps the ID, so that it can be had beforehand
    code = "import os, sys; os.execv(sys.executable, [*sys.argv[1:], str(os.getpid())])"
    program = [sys.executable, "-c", code, *COMMAND, "pageout", "--json"]
    done = subprocess.run(
        program,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert b"this is the command itself" in done.stderr


@pytest.mark.parametrize("force", [False, True])
def test_force(monkeypatch: pytest.MonkeyPatch, target: Target, force: bool) -> None:
    """--force advises who would be left alone."""
    refusals: list[int] = []
    real: Callable[[int, Advice], OSError | None] = work.refusal

    def refusal(pid: int, advice: Advice) -> OSError | None:
        refusals.append(pid)
        return real(1, advice)

    monkeypatch.setattr(work, "refusal", refusal)
    arguments = ["--json", "cold", str(target.pid), *(["--force"] if force else [])]
    result = CliRunner().invoke(app, arguments)
    assert ("left alone" in result.output) is not force
    assert refusals == ([] if force else [target.pid])


def test_a_tree_leaves_the_command_out() -> None:
    """The command is no target of the --tree or --cgroup that it runs in."""
    done = run("cold", "--tree", os.getpid(), "--json")
    assert [one["pid"] for one in done.objects] == [os.getpid()]


@pytest.mark.parametrize(
    ("advice", "swap", "words"),
    [
        (Advice.PAGEOUT, Swap(0, 0, False), "swap is off"),
        (Advice.PAGEOUT, Swap(100 * MIB, MIB, True), "nearly full"),
        (Advice.PAGEOUT, Swap(100 * MIB, 50 * MIB, True), None),
        (Advice.PAGEOUT, Swap(100 * MIB, 50 * MIB, False), "swap cache"),
        (Advice.PAGEOUT, OSError(2, "hidden: do so"), "hidden: do so"),
        (Advice.COLD, Swap(0, 0, False), None),
        (Advice.COLD, OSError(2, "hidden: do so"), None),
    ],
)
def test_swap_is_looked_at(
    advice: Advice, swap: Swap | OSError, words: str | None
) -> None:
    """There is a warning where pageout finds no swap, or can't see it."""
    warning = work.swap_warning(advice, swap)
    assert warning is None if words is None else words in (warning or "")


def test_targets_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What processes() could not reach is an error, beside the targets found."""

    def found(**_: object) -> Iterator[Process]:
        yield Process(os.getppid())
        warnings.warn("some processes are left out: why", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr("pmadvise.command.targets.processes", found)
    targets = Targets([], ["/a"], [])
    assert [target.pid for target in targets] == [os.getppid()]
    [(subject, error)] = targets.errors
    assert (subject, "left out: why" in str(error)) == ("--cgroup /a", True)


class Impatient(Silence):
    """Presses Ctrl-C a second time as soon as there is any progress."""

    def progress(self, done: int, total: int) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("selection", [Selection(), Selection(anon=True)], ids=repr)
def test_a_second_interrupt(target: Target, selection: Selection) -> None:
    """Ctrl-C twice ends it at once; the report has what was done all the same."""
    target.filled(64 * MIB)
    targets = Targets([target.pid, os.getpid()], (), ())
    order = Order(Advice.COLD, selection)
    first, second = work.advise(targets, order, threading.Event(), Impatient())
    assert first.report is not None
    assert second.report is not None
    assert 0 < first.report.advised < first.report.requested
    assert (first.report.ended, second.report.ended) == ("cancelled", "cancelled")
    assert (second.report.requested, first.error, second.error) == (0, None, None)
