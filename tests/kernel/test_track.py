"""Tracking by the source that every kernel has, mappings; and what all refuse."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.children import in_child
from helpers.privileges import become_nobody
from helpers.targets import MIB, Target, exec_shell, pages

import pmadvise
from pmadvise import PAGE_SIZE, Advice, Process, Ranges, Tracker

SIZE = 4 * MIB


def looked(tracker: Tracker) -> Ranges:
    """Look, and return what was not touched since the look before."""
    before = tracker.ages()[0][0]
    assert before == 0
    tracker.look()
    return tracker.idle(tracker.ages()[1][0])


def test_mappings(target: Target, process: Process) -> None:
    """Of two mappings the one that was touched is not idle, the other is, all of it."""
    hot, cold = target.filled(SIZE), target.filled(SIZE)
    with process.track("mappings") as tracker:
        assert (tracker.source, tracker.grain) == ("mappings", 0)
        target.run(f"look({hot}, [7])")
        idle = looked(tracker)
        assert idle & Ranges([(hot, SIZE)]) == Ranges()
        assert idle & Ranges([(cold, SIZE)]) == Ranges([(cold, SIZE)])
        assert tracker.ages()[1][1] >= SIZE
        assert tracker.ages()[0][1] >= 2 * SIZE
        # It is old enough no more, once it is touched, and grows old again.
        target.run(f"touch({cold}, [3])")
        idle = looked(tracker)
        assert idle & Ranges([(hot, SIZE), (cold, SIZE)]) == Ranges([(hot, SIZE)])
        assert tracker.idle(0).total >= 2 * SIZE


def test_what_is_idle_may_be_advised(target: Target, process: Process) -> None:
    """It is whole pages of private memory that is there: COLD takes all of it."""
    target.filled(SIZE)
    target.touched("range(0, 64, 2)")
    with process.track("mappings") as tracker:
        idle = looked(tracker)
    assert idle.total >= SIZE
    report = process.cold(idle)
    assert (report.advised, report.skipped) == (idle.total, ())


def test_shared_memory_is_unknown(target: Target, process: Process) -> None:
    """Shared mappings, and what a fork maps too, are never idle."""
    shared = target.run(f"filled({SIZE}, flags=SHARED | ANONYMOUS)")
    private = target.filled(SIZE)
    both = Ranges([(shared, SIZE), (private, SIZE)])
    with process.track("mappings") as tracker:
        assert looked(tracker) & both == Ranges([(private, SIZE)])
        assert tracker.unknown >= SIZE
        child = target.run("fork()")
        assert tracker.idle(0) & both == Ranges(), "the fork maps it since"
        assert looked(tracker) & both == Ranges()
        assert tracker.unknown >= 2 * SIZE
        os.kill(child, 9)


def test_unmapped_memory_is_not_idle(target: Target, process: Process) -> None:
    """Memory that was unmapped, in part mapped anew, is not idle."""
    area = target.filled(SIZE)
    with process.track("mappings") as tracker:
        tracker.look()
        target.run(f"unmap({area}, {SIZE // 2})")
        assert tracker.idle(0) & Ranges([(area, SIZE)]) == Ranges(
            [(area + SIZE // 2, SIZE // 2)]
        )
        target.run(f"map_at({area}, {SIZE // 2})")
        target.run(f"touch({area}, range(4))")
        assert looked(tracker) & pages(area, *range(4)) == Ranges()


@pytest.mark.needs_swap
@pytest.mark.needs_root
def test_idle_memory_is_paged_out(target: Target, process: Process) -> None:
    """The cold part of a busy process goes to swap, and the hot part stays."""
    hot, cold = target.filled(SIZE), target.filled(SIZE)
    with process.track("mappings") as tracker:
        target.run(f"touch({hot}, range({SIZE // PAGE_SIZE}))")
        idle = looked(tracker) & process.maps().select(anonymous=True)
    process.pageout(idle)
    assert target.smaps(cold, "Swap") >= SIZE * 0.9
    assert target.smaps(hot, "Swap") == 0
    assert target.intact(cold, SIZE)


@pytest.mark.parametrize("ask", ["look", "idle"])
def test_after_an_exec(target: Target, process: Process, ask: str) -> None:
    """A tracker is of one address space: after an exec it has nothing to say."""
    with process.track("mappings") as tracker:
        exec_shell(target)
        with pytest.raises(ProcessLookupError, match="exec"):
            tracker.look() if ask == "look" else tracker.idle(0)
    process.maps()
    with process.track("mappings") as tracker:
        tracker.look()


def test_after_the_exit(target: Target, process: Process) -> None:
    """Once the process has ended, look() and idle() say so."""
    with process.track("mappings") as tracker:
        target.kill()
        for ask in (tracker.look, lambda: tracker.idle(0)):
            with pytest.raises(ProcessLookupError, match="exited"):
                ask()
    with pytest.raises(ProcessLookupError):
        process.track("mappings")


def test_two_trackers_of_a_process_are_refused(
    target: Target, process: Process
) -> None:
    """Each would take from the other what was touched: here, and in another process."""
    other = (
        "import pmadvise\n"
        f"try: pmadvise.Process({target.pid}).track('mappings')\n"
        "except OSError as error: print(error.errno)"
    )
    with process.track("mappings"):
        for again in (
            lambda: process.track("mappings"),
            lambda: Process(target.pid).track(),
            lambda: process.working_set(0),
        ):
            with pytest.raises(OSError, match="another Tracker or working_set"):
                again()
        said = subprocess.run(
            [sys.executable, "-c", other], stdout=subprocess.PIPE, check=True
        ).stdout
        assert int(said) == errno.EBUSY
    process.working_set(0)
    with process.track("mappings"):
        pass


def test_a_lost_tracker_lets_go(target: Target, process: Process) -> None:
    """A tracker that nobody refers to any more is none."""
    process.track("mappings")
    process.track("mappings").close()


@pytest.mark.parametrize("source", ["", "pages", "DAMON"])
def test_sources_have_names(process: Process, source: str) -> None:
    """A source that is none is refused, and named."""
    with pytest.raises(ValueError, match=repr(source)):
        process.track(source)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="None"):
        process.track(None)  # type: ignore[arg-type]


def test_support_says_the_same(process: Process) -> None:
    """A source that can't be had is refused for the reason that support() has."""
    answers = pmadvise.support().idle
    assert list(answers) == ["page_idle", "damon", "mappings"]
    for name, answer in answers.items():
        if answer:
            process.track(name).close()  # type: ignore[arg-type]
            continue
        assert answer.remedy
        with pytest.raises(OSError, match=re.escape(str(answer))) as refused:
            process.track(name)  # type: ignore[arg-type]
        assert refused.value.errno == answer.errno
    finest = next(name for name, answer in answers.items() if answer)
    with process.track() as tracker:
        assert tracker.source == finest


@pytest.mark.needs_root
def test_a_stranger_is_refused(target: Target, process: Process) -> None:
    """Another user's process is not tracked, and the right that is missing is named."""

    def stranger() -> str:
        process.track("mappings").close()
        become_nobody()
        try:
            process.track("mappings")
        except PermissionError as error:
            return str(error)
        return ""

    outcome = in_child(stranger)
    assert "CAP_SYS_PTRACE" in str(outcome.value), outcome


def test_from_several_threads(target: Target, process: Process) -> None:
    """Looks of several threads follow each other."""
    target.filled(SIZE)
    errors: list[Exception] = []
    with process.track("mappings") as tracker:

        def work() -> None:
            try:
                for _ in range(10):
                    tracker.look()
                    tracker.idle(0)
                    tracker.ages()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(tracker.ages()) == 41


def test_a_tracker_at_rest_has_one_descriptor(process: Process) -> None:
    """A daemon has hundreds."""
    process.check(Advice.COLD)
    here = Path("/proc/self/fd")
    before = len(list(here.iterdir()))
    with process.track("mappings") as tracker:
        tracker.look()
        tracker.idle(0)
        assert len(list(here.iterdir())) == before + 1
    assert len(list(here.iterdir())) == before
