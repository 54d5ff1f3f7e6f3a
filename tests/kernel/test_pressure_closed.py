"""close() of a Pressure in one thread, while another one waits for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.hold_targets import Cgroup, cgroup_of
from helpers.waiting import until

from pmadvise import Pressure

N_WAITING = 3


def open_files() -> set[str]:
    """Return the open file descriptors, without that of the listing."""
    listed = os.listdir("/proc/self/fd")
    return {name for name in listed if os.path.exists(f"/proc/self/fd/{name}")}


@pytest.fixture
def below() -> Iterator[Cgroup]:
    """A cgroup of v2 in one of the test's own, which may remove it."""
    with cgroup_of(2) as found:
        yield found.child()


def all_wait(pressure: Pressure, number: int) -> None:
    """Wait until so many threads are in wait()."""
    trigger = pressure._trigger
    assert trigger is not None
    until(lambda: len(trigger._users) == number, "they wait")


@pytest.mark.parametrize("timeout", [None, 3600])
def test_who_waits_is_woken(timeout: float | None) -> None:
    """Each wait() ends with the error of a closed one, and all is closed then."""
    with ThreadPoolExecutor(N_WAITING) as pool:
        for _ in range(20):
            before = open_files()
            pressure = Pressure(stall=2.0)
            waits = [pool.submit(pressure.wait, timeout) for _ in range(N_WAITING)]
            all_wait(pressure, N_WAITING)
            pressure.close()
            errors = [wait.exception(timeout=60) for wait in waits]
            assert {str(error) for error in errors} == {
                "the Pressure of /proc/pressure/memory is closed"
            }
            assert {type(error) for error in errors} == {ValueError}
            assert open_files() <= before


def test_closed_at_any_time() -> None:
    """Whenever it is closed, wait() has no error of a file that is another's by now."""
    outcomes: set[str] = set()
    for _ in range(300):
        pressure = Pressure(stall=2.0)
        closing = threading.Barrier(2)

        def close(pressure: Pressure, closing: threading.Barrier) -> None:
            closing.wait()
            pressure.close()

        thread = threading.Thread(target=close, args=(pressure, closing))
        thread.start()
        closing.wait()
        try:
            pressure.wait(60)
        except Exception as error:
            outcomes.add(repr(error))
        thread.join()
    assert outcomes == {"ValueError('the Pressure of /proc/pressure/memory is closed')"}


def test_closed_by_a_signal_handler() -> None:
    """A handler that closes it in the midst of wait() ends that."""
    pressure = Pressure(stall=2.0)
    before = signal.signal(signal.SIGUSR1, lambda *_: pressure.close())
    waiter = threading.get_ident()

    def send() -> None:
        all_wait(pressure, 1)
        signal.pthread_kill(waiter, signal.SIGUSR1)

    try:
        thread = threading.Thread(target=send)
        thread.start()
        with pytest.raises(ValueError, match="closed"):
            pressure.wait()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_all_who_wait_hear_of_the_end(below: Cgroup) -> None:
    """The end of the cgroup reaches each thread that waits, and not only the first."""
    with (
        Pressure(below.path / "memory.pressure") as pressure,
        ThreadPoolExecutor(N_WAITING) as pool,
    ):
        waits = [pool.submit(pressure.wait) for _ in range(N_WAITING)]
        all_wait(pressure, N_WAITING)
        below.close()
        errors = [str(wait.exception(timeout=60)) for wait in waits]
    assert ["has been removed" in error for error in errors] == [True] * N_WAITING
