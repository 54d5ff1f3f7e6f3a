"""close() in one thread, while another one has the handle or is in a call of it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest
from helpers.targets import PAGE, Target
from helpers.waiting import until

import pmadvise
from pmadvise import Advice, Process


def open_files() -> set[int]:
    """Return the open file descriptors, without that of the listing."""
    listed = os.listdir("/proc/self/fd")
    return {int(name) for name in listed if os.path.exists(f"/proc/self/fd/{name}")}


def in_a_thread(work: Callable[[], object]) -> None:
    """Do something in another thread, and wait for it."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def held(process: Process) -> None:
    """Hold a process for a moment."""
    with process.hold("sigstop"):
        pass


WORK: dict[str, Callable[[Process, int], object]] = {
    "check": lambda process, _: process.check(Advice.COLD),
    "status": lambda process, _: process.status(),
    "alive": lambda process, _: process.alive,
    "wait": lambda process, _: process.wait(0),
    "maps": lambda process, _: len(process.maps()),
    "stale": lambda process, _: process.maps().stale,
    "cgroup": lambda process, _: process.cgroup(),
    "memory": lambda process, _: process.memory(),
    "resident": lambda process, at: process.resident([(at, PAGE)]),
    "selection": lambda process, _: process.selection(Advice.PAGEOUT),
    "advise": lambda process, at: process.cold([(at, PAGE)], measure=True),
    "hold": lambda process, _: held(process),
    "from_pidfd": lambda process, _: Process.from_pidfd(process).close(),
    "support": lambda process, _: pmadvise.support(process),
    "process_madvise": lambda process, at: pmadvise.process_madvise(
        process, [(at, PAGE)], Advice.COLD
    ),
    "process_madvise_range": lambda process, at: pmadvise.process_madvise_range(
        process, at, PAGE, Advice.COLD
    ),
    "refused": lambda process, _: pmadvise.process_madvise(
        process, [(PAGE, PAGE)], Advice.COLD
    ),
}


class CloseAtCall:
    """A profile function that has a handle closed right before the n-th call into C.

    The numbers that are free then are taken by a file of another kind.

    Args:
        process: The handle.
        n: From 1.
    """

    def __init__(self, process: Process, n: int) -> None:
        self._process, self._left = process, n
        self.taken: list[int] = []

    @property
    def is_closed(self) -> bool:
        """Whether there were so many calls."""
        return self._left <= 0

    def __call__(self, frame: FrameType, event: str, function: object) -> None:
        name = getattr(function, "__name__", "")
        if event != "c_call" or not name.startswith(("pmadvise_", "poll")):
            return
        self._left -= 1
        if self._left == 0:
            before = open_files()
            in_a_thread(self._process.close)
            for number in before - open_files():
                null = os.open("/dev/null", os.O_RDONLY)
                os.dup2(null, number)
                self.taken.append(number)
                if null != number:
                    os.close(null)


@pytest.mark.needs_root
@pytest.mark.parametrize("name", WORK)
def test_closed_at_any_call(name: str, target: Target) -> None:
    """Each call answers for its own process or raises ValueError, and all is closed."""
    address = target.filled(PAGE)
    n, is_closed, outcomes = 0, True, set()
    while is_closed:
        n += 1
        before = open_files()
        process = Process(target.pid)
        closer = CloseAtCall(process, n)
        sys.setprofile(closer)
        try:
            WORK[name](process, address)
            outcome = "an answer"
        except ValueError as error:
            outcome = str(error)
        except OSError as error:
            outcome = f"errno {error.errno}"
        finally:
            sys.setprofile(None)
        is_closed = closer.is_closed
        process.close()
        for number in closer.taken:
            os.close(number)  # fails if it was closed as if it were the handle's
        assert open_files() == before, n
        outcomes.add(outcome)
    expected = "an answer" if name != "refused" else "errno 12"
    assert outcomes <= {expected, f"the Process of pid {target.pid} is closed"}
    assert expected in outcomes
    assert n > 1, "it was closed at no call"


@pytest.mark.needs_root
def test_closed_at_once(target: Target) -> None:
    """close() closes though another thread has references, its mappings among them."""
    before = open_files()
    process = Process(target.pid)
    kept, close = threading.Event(), threading.Event()

    def keep(process: Process) -> None:
        space = process.maps()
        kept.set()
        close.wait()
        del space

    thread = threading.Thread(target=keep, args=(process,))
    thread.start()
    try:
        kept.wait()
        in_a_thread(process.close)
        assert open_files() == before
    finally:
        close.set()
        thread.join()


@pytest.mark.needs_root
def test_the_last_one_out_closes(target: Target) -> None:
    """A handle that is closed while a thread waits is closed when the wait ends."""
    before = open_files()
    process = Process(target.pid)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(process.wait)
        try:
            until(lambda: process._identity._users, "it waits")
            process.close()
            with pytest.raises(ValueError, match="closed"):
                process.status()
            assert open_files() != before
        finally:
            target.kill()
        assert ended.result()
    assert open_files() == before
