"""What reclaim() and willneed(touch=True) do, in a guest with cgroup v2."""

import errno
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import command_guest
from guest_groups import SIZE, Group, filled, near
from guest_targets import MAPS_FILE, MIB, PAGES
from proof import CGROUPS, refused, require

import pmadvise

USER = 1000


def told() -> str:
    """The bytes told are the fall of memory.current."""
    with filled("told") as group:
        before, begin = group.read("memory.current"), time.monotonic()
        done = pmadvise.reclaim(group.path, SIZE // 2)
        seconds = time.monotonic() - begin
        require(done.ended == "complete", done)
        require(done.reclaimed >= 0.9 * SIZE // 2, done)
        require(done.after.swap >= 0.8 * SIZE // 2, done)  # type: ignore[union-attr,operator]
        fall = before - group.read("memory.current")
        return f"{near(done.reclaimed, fall)}, {done.calls} calls, {seconds:.2f} s"


def short() -> str:
    """More than there is: all that there was, and no error."""
    with filled("short") as group:
        before = group.read("memory.current")
        done = pmadvise.reclaim(group.path, 4 * SIZE)
        require(done.ended == "short", done)
        require(done.after.anonymous <= SIZE // 16, done)  # type: ignore[union-attr]
        said = near(done.reclaimed, before - group.read("memory.current"))
        again = pmadvise.reclaim(group.path, SIZE)
        require(again.ended == "short" and again.reclaimed < SIZE // 16, again)
        return f"{said}, left {done.after.current / MIB:.1f} MiB"  # type: ignore[union-attr]


def swappiness() -> str:
    """0 takes files alone, "max" anonymous memory alone; unknown moves nothing."""
    told = []
    with filled("swappiness", SIZE // 2) as group:
        group.start(MAPS_FILE, "/tmp/swappiness", SIZE // 2)
        for value in (200, "max", 0):
            before = group.read("memory.current")
            try:
                done = pmadvise.reclaim(group.path, SIZE // 8, swappiness=value)
            except OSError as error:
                require(error.errno == errno.EINVAL, error)
                require("has reclaimed nothing" in str(error), error)
                require(error.reclaimed.calls == 0, error)  # type: ignore[attr-defined]
                fall = before - group.read("memory.current")
                require(abs(fall) < MIB, f"{fall} bytes moved")
                told.append(f"{value} is unknown")
                continue
            anonymous = done.before.anonymous - done.after.anonymous  # type: ignore[union-attr]
            file = done.before.file - done.after.file  # type: ignore[union-attr]
            told.append(
                f"{value}: {anonymous / MIB:.0f} anonymous, {file / MIB:.0f} file"
            )
            require(value == 200 or (anonymous < MIB) == (value == 0), told)
            require(value == 200 or (file < MIB) == (value == "max"), told)
    return "; ".join(told)


def delegated() -> str:
    """The owner of a cgroup needs no capability; another user is refused."""
    ask = f"import pmadvise, sys; print(pmadvise.reclaim(sys.argv[1], {SIZE // 4}))"
    with filled("delegated", SIZE // 2) as group:

        def as_user() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", ask, str(group.path)],
                user=USER,
                group=USER,
                extra_groups=[],
                capture_output=True,
                text=True,
                check=False,
            )

        stranger = as_user()
        require("Delegate=yes" in stranger.stderr, stranger)
        os.chown(group.path, USER, USER)
        for name in ("cgroup.procs", "memory.reclaim"):
            os.chown(group.path / name, USER, USER)
        owner = as_user()
        require("ended='complete'" in owner.stdout, owner)
        return stranger.stderr.splitlines()[-1]


def interrupted() -> str:
    """Ctrl-C ends it within a second, with the account so far."""
    with filled("interrupted") as group:
        took: list[float] = []

        def interrupt(done: int, _all: int) -> None:
            if not took:
                took.append(time.monotonic())
                signal.setitimer(signal.ITIMER_REAL, 0.001)

        def handler(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, handler)
        try:
            pmadvise.reclaim(group.path, SIZE, on_progress=interrupt)
        except KeyboardInterrupt as error:
            took.append(time.monotonic())
            done = error.reclaimed  # type: ignore[attr-defined]
        finally:
            signal.signal(signal.SIGALRM, before)
        seconds = took[1] - took[0]
        require(done.ended == "cancelled" and 0 < done.reclaimed < SIZE, done)
        require(seconds < 1, seconds)
        stopped = pmadvise.reclaim(group.path, SIZE, timeout=0)
        require((stopped.ended, stopped.calls) == ("timeout", 0), stopped)
        stopped = pmadvise.reclaim(group.path, SIZE, stop=lambda: True)
        require((stopped.ended, stopped.calls) == ("cancelled", 0), stopped)
        return f"{1000 * seconds:.0f} ms after the signal, {done.reclaimed} bytes"


def signals() -> str:
    """Many signals do not make it take more than was asked for."""
    with filled("signals") as group:
        count = []
        before = signal.signal(signal.SIGALRM, lambda *_: count.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        try:
            done = pmadvise.reclaim(group.path, SIZE // 4)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        require(count and done.ended == "complete", done)
        # 6.1 may take twice as much by itself; repeated, it would take all there is
        require(done.reclaimed <= 2.2 * SIZE // 4, done)
        return (
            f"{len(count)} signals, {done.reclaimed / MIB:.1f} of {SIZE / 4 / MIB} MiB"
        )


def protected() -> str:
    """memory.min, memory.low and the floor of swap are kept."""
    with filled("protected") as group:
        for file in ("memory.low", "memory.min"):
            kept = group.read("memory.current") - SIZE // 4
            group.write(file, kept)
            done = pmadvise.reclaim(group.path, SIZE)
            group.write(file, 0)
            require(done.ended == "budget", done)
            left = group.read("memory.current")
            require(kept <= left < kept + MIB, f"{left} of {kept}: {done}")
        group.write("memory.low", "max")
        done = pmadvise.reclaim(group.path, MIB)
        require((done.ended, done.calls) == ("budget", 0), done)
        group.write("memory.low", 0)
        floor = pmadvise.swap().free - SIZE // 8
        done = pmadvise.reclaim(group.path, SIZE, swap_floor=floor)
        require(done.ended == "budget", done)
        require(pmadvise.swap().free >= floor, pmadvise.swap())
    return ""


def removed() -> str:
    """A cgroup that is removed in between: an error, with the account so far."""
    with filled("removed") as group:

        def remove(*_: object) -> None:
            group.__exit__()

        def ask() -> None:
            pmadvise.reclaim(group.path, SIZE, on_progress=remove)

        try:
            ask()
        except OSError as error:
            done = error.reclaimed  # type: ignore[attr-defined]
            require(done.calls == 1 and done.after is None, done)
            require(error.errno == errno.ENODEV, error)
            said = str(error)
        refused(FileNotFoundError, ask, "there is no cgroup")
        return said


def no_controller() -> str:
    """Without the controller the reason names it; of the root all can be had."""
    with Group("outer") as outer, Group("inner", outer.path) as inner:
        said = refused(
            FileNotFoundError, lambda: pmadvise.reclaim(inner.path, 1), "controller"
        )
    with filled("root"):
        require(pmadvise.support().reclaim, pmadvise.support().reclaim)
        done = pmadvise.reclaim(CGROUPS, SIZE // 8)
        require(done.ended == "complete" and done.reclaimed > SIZE // 16, done)
    return said


def touched(source: str) -> str:
    """What was read ahead is mapped: no fault is left to the target, and it is told."""
    with Group("touched") as group:
        if source == "swap":
            child = group.start(PAGES, SIZE // 2)
        else:
            child = group.start(MAPS_FILE, "/tmp/touched", SIZE // 2)
        with pmadvise.Process(child.pid) as process:
            whole = pmadvise.Ranges([(int(child.hello), SIZE // 2)])
            process.pageout(whole)
            left = process.resident(whole).total
            pmadvise.reclaim(group.path, SIZE)  # the swap cache, the page cache
            report = process.willneed(whole, touch=True)
            require(report.advised == whole.total, report)
            require(report.touched >= 0.95 * (whole.total - left), report)
            child.tell()
            minor, major = map(int, child.line().split())
        require(
            minor + major < SIZE // 2 // 4096 // 50, f"{minor} minor, {major} major"
        )
        return f"touched {report.touched / MIB:.0f} MiB, {minor} minor, {major} major"


def checks() -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the checks of this kernel, by name."""
    for check in (
        told,
        short,
        swappiness,
        delegated,
        interrupted,
        signals,
        protected,
        removed,
        no_controller,
        *command_guest.CHECKS,
    ):
        yield f"reclaim_{check.__name__}", check
    for source in ("swap", "file"):
        yield f"touch_{source}", functools.partial(touched, source)
