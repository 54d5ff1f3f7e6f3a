"""File descriptors have one owner, whatever interrupts, copies or closes."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from helpers.proc import open_files
from helpers.targets import PAGE, Target

from pmadvise import Advice, Pressure, Process, support
from pmadvise._native.descriptor import Descriptor

N_INTERRUPTS = 1500


class Interrupted(BaseException):
    """Raised by a signal handler."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Return a function that sets a timer, whose signal raises Interrupted."""

    def handler(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def open_and_close(process: Process) -> None:
    """Open the same process anew."""
    Process(process.pid).close()


@pytest.mark.usefixtures("no_gc")
@pytest.mark.timeout(method="thread")  # the signal is the test's own
@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (open_and_close, 60e-6),
        (Process.maps, 150e-6),
        (Process.resident, 200e-6),
        (Process.cold, 600e-6),
        (support, 1500e-6),
    ],
)
def test_interrupts_leak_nothing(
    process: Process,
    alarm: Callable[[float], None],
    work: Callable[[Process], object],
    seconds: float,
) -> None:
    """A signal handler that raises, at whatever moment, leaves no descriptor open."""
    work(process)
    gc.collect()
    before = open_files()
    for i in range(N_INTERRUPTS):
        try:
            try:
                alarm(2e-6 + seconds * i / N_INTERRUPTS)
                work(process)
            finally:
                alarm(0)
        except Interrupted:
            pass  # what is left behind is what is tested
    gc.collect()
    assert open_files() == before


@pytest.mark.needs_root
def test_closed_while_it_is_advised(target: Target, process: Process) -> None:
    """A call goes on with the descriptors of a handle that is closed meanwhile."""
    address = target.filled(64 * PAGE)
    pidfd = process.pidfd
    still_open: list[bool] = []

    def close(done: int, total: int) -> None:
        process.close()
        still_open.append(os.path.exists(f"/proc/self/fd/{pidfd}"))

    ranges = [(address + i * 2 * PAGE, PAGE) for i in range(2)]
    report = process.advise(ranges, Advice.COLD, on_progress=close)
    assert (report.ended, report.advised) == ("complete", 2 * PAGE)
    assert (still_open, os.path.exists(f"/proc/self/fd/{pidfd}")) == ([True], False)


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
@pytest.mark.parametrize("make", [lambda: Process(2), Pressure], ids=["pid 2", "psi"])
def test_no_second_owner(
    make: Callable[[], Process | Pressure], twin: Callable[[object], object]
) -> None:
    """A handle can't be copied or pickled: both would close its descriptors."""
    with make() as one, pytest.raises(TypeError, match="copied"):
        twin(one)


def test_copy_of_a_trigger() -> None:
    """A shallow copy shares the descriptor, which is closed once."""
    with Pressure() as pressure:
        copy.copy(pressure).close()


def test_closed_once() -> None:
    """Closing again does not close what has the number now."""
    first = Descriptor.open("/dev/null")
    number = first.fd
    first.close()
    second = Descriptor.open("/dev/null")
    first.close()
    assert (first.fd, second.fd, os.path.exists(f"/proc/self/fd/{number}")) == (
        -1,
        number,
        True,
    )


@pytest.mark.parametrize(
    "look", [Process.maps, Process.status, Process.resident, Process.memory]
)
def test_closed_by_another_thread(
    target: Target, look: Callable[[Process], object]
) -> None:
    """A look at a handle that another thread closes succeeds, or reports just that."""
    handles = [Process(target.pid)]
    over = threading.Event()
    wrong: list[BaseException] = []

    def look_at_it() -> None:
        while not over.is_set():
            try:
                look(handles[0])
            except ValueError:
                pass
            except OSError as error:
                wrong.append(error)

    looking = threading.Thread(target=look_at_it)
    looking.start()
    for _ in range(400):
        old, handles[0] = handles[0], Process(target.pid)
        old.close()
    over.set()
    looking.join(60)
    handles[0].close()
    assert wrong == []
