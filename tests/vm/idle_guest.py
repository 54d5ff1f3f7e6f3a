"""What a Tracker says is idle, in a guest: each source against a known target."""

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guest_targets import CHUNK, EXEC, FORK, MIB, ONCE, SIZE, TARGET, TRACK, Child
from proof import CGROUPS, refused, require

import pmadvise

KDAMONDS = Path("/sys/kernel/mm/damon/admin/kdamonds")
LRU_GEN = Path("/sys/kernel/mm/lru_gen/enabled")
GROUP = CGROUPS / "aged"
Source = Any  # a name that support() has


@contextmanager
def target() -> Iterator[
    tuple[Child, pmadvise.Process, pmadvise.Ranges, pmadvise.Ranges]
]:
    """Start a target; yield it, its handle, its memory, and what of that is cold."""
    with Child(TARGET) as child:
        base, *hot = map(int, child.hello.split())
        whole = pmadvise.Ranges([(base, SIZE)])
        hot_ranges = pmadvise.Ranges((base + chunk, CHUNK) for chunk in hot)
        with pmadvise.Process(child.pid) as process:
            yield child, process, whole, whole - hot_ranges


def told_right(source: Source, precision: float, recall: float) -> str:
    """Compare what is said to be idle with what the target does not touch."""
    with target() as (child, process, whole, cold):
        time.sleep(2)
        child.dots()
        time.sleep(5)
        before = child.dots() / 5
        with process.track(source) as tracker:
            looks = []
            for _ in range(4):
                time.sleep(2)
                start = time.monotonic()
                tracker.look()
                looks.append(time.monotonic() - start)
            during = child.dots() / (8 + sum(looks))
            idle = tracker.idle(6) & whole
            right = (idle & cold).total
            got = right / max(idle.total, 1), right / cold.total
            detail = (
                f"precision {got[0]:.3f}, recall {got[1]:.3f}, grain {tracker.grain}, "
                f"look {1000 * sorted(looks)[2]:.0f} ms, {len(idle)} ranges, unknown "
                f"{tracker.unknown // MIB} MiB; rounds/s {before:.1f} -> {during:.1f}"
            )
            require(got[0] >= precision, detail)
            require(got[1] >= recall, detail)
            return detail


def exec_and_exit(source: Source) -> str:
    """An exec and an exit under a tracker are told, and nothing is idle after."""
    with Child(EXEC) as child, pmadvise.Process(child.pid) as process:
        with process.track(source) as tracker:
            tracker.look()
            child.tell()
            time.sleep(2)
            refused(ProcessLookupError, tracker.look, "exec")
            refused(ProcessLookupError, lambda: tracker.idle(0), "exec")
        process.maps()
        with process.track(source) as tracker:
            child.popen.kill()
            child.popen.wait()
            refused(ProcessLookupError, tracker.look, "exited")
    require(source != "damon" or number() == 0, "a kdamond is left")
    return ""


def fork_and_unmap(source: Source) -> str:
    """What a fork maps too is unknown, what was unmapped is gone, and both go on."""
    with Child(FORK) as child, pmadvise.Process(child.pid) as process:
        whole = pmadvise.Ranges([(int(child.hello), SIZE // 8)])
        time.sleep(1)  # until what was filled last is on an LRU list
        Path("/proc/sys/vm/compact_memory").write_text("1")
        with process.track(source) as tracker:
            time.sleep(1)
            tracker.look()
            found = (tracker.idle(0) & whole).total
            require(found >= 0.9 * whole.total, found)
            child.tell()
            child.line()
            tracker.look()
            require((tracker.idle(0) & whole).total == 0, "a fork maps it too")
            require(tracker.unknown >= whole.total, tracker.unknown)
            child.tell()
            child.line()
            tracker.look()
            require((tracker.idle(0) & whole).total == 0, "it was unmapped")
    return f"{found / whole.total:.2f} of it watched"


def number() -> int:
    """Return the number of kdamonds."""
    return int((KDAMONDS / "nr_kdamonds").read_text())


def damon_of_others() -> str:
    """A kdamond of somebody else is left alone."""
    (KDAMONDS / "nr_kdamonds").write_text("1")
    try:
        with pmadvise.Process(os.getpid()) as process:
            said = refused(OSError, lambda: process.track("damon"), "somebody else")
        require(number() == 1, "somebody else's kdamond was taken")
    finally:
        (KDAMONDS / "nr_kdamonds").write_text("0")
    return said


def damon_after_sigkill() -> str:
    """What SIGKILL leaves is cleared away by the next; a normal end leaves nothing."""
    with target() as (_, process, *_):
        for kill in (True, False):
            with Child(TRACK, process.pid) as child:
                require(number() == 1, number())
                with Child(EXEC) as other, pmadvise.Process(other.pid) as another:
                    refused(OSError, lambda: another.track("damon"), "somebody else")
                if kill:
                    child.popen.send_signal(signal.SIGKILL)
                else:
                    child.popen.stdin.close()  # type: ignore[union-attr]
                    child.popen.stdin = None
                child.popen.wait()
            require(number() == (1 if kill else 0), number())
            with process.track("damon") as tracker:
                tracker.look()
            require(number() == 0, number())
    return "after SIGKILL, and after an exit with a tracker open"


def aged(source: Source, mode: str) -> str:
    """Say whether reclaim between a touch and a look hides the touch: for the guide."""
    if mode:
        LRU_GEN.write_text(mode)
    GROUP.mkdir(exist_ok=True)
    told = []
    with Child(ONCE) as child, pmadvise.Process(child.pid) as process:
        (GROUP / "cgroup.procs").write_text(str(child.pid))
        whole = pmadvise.Ranges([(int(child.hello), SIZE // 4)])
        for reclaim in (False, True):
            with process.track(source) as tracker:
                time.sleep(1)
                child.tell()
                child.line()
                time.sleep(1)
                if reclaim:
                    pmadvise.reclaim(GROUP, 8 * MIB)
                time.sleep(1)
                tracker.look()
                left = process.resident(whole).total
                told.append((tracker.idle(2) & whole).total / left)
    return (
        f"MGLRU {mode or 'not built'}: of what was touched once, said to be idle: "
        f"{told[0]:.2f} without reclaim, {told[1]:.2f} with"
    )


def two_trackers() -> str:
    """Two trackers of a process are refused, working_set() too."""
    with target() as (_, process, *_), process.track("mappings"):
        refused(OSError, lambda: process.track("mappings"), "another Tracker")
        refused(OSError, lambda: process.working_set(0), "another Tracker")
    return ""


def checks() -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the checks of this kernel, by name."""
    stat = Path("/sys/module/damon_stat/parameters/enabled")
    answers = pmadvise.support().idle
    for name, answer in answers.items():
        print(f"# {name}: {answer}")
    if stat.exists() and stat.read_text().strip() == "Y":
        require("DAMON_STAT" in answers["damon"].reason, answers["damon"])
        stat.write_text("N")
        answers = pmadvise.support().idle
    yield "two_trackers", two_trackers
    bounds = {"page_idle": (0.99, 0.95), "damon": (0.97, 0.85)}
    modes = ("0", "7") if LRU_GEN.exists() else ("",)
    for name in (name for name, answer in answers.items() if answer):
        yield f"exec_{name}", functools.partial(exec_and_exit, name)
        yield f"fork_{name}", functools.partial(fork_and_unmap, name)
        if name in bounds:
            yield f"told_{name}", functools.partial(told_right, name, *bounds[name])
        for mode in modes:
            yield f"aged_{name}", functools.partial(aged, name, mode)
    if answers["damon"]:
        yield "others", damon_of_others
        yield "sigkill", damon_after_sigkill
