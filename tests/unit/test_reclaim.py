"""reclaim() on a scripted cgroup: its account, its limits, and its refusals."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.fake_cgroup import FakeCgroup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pmadvise
from pmadvise import Swap, cgroup

MIB = 1 << 20


def test_all_of_it(fake: FakeCgroup) -> None:
    """What is asked for is taken in requests, and accounted for."""
    progress: list[tuple[int, int]] = []
    done = pmadvise.reclaim(
        fake.root, 50 * MIB, on_progress=lambda *n: progress.append(n)
    )
    assert (done.ended, done.requested, done.reclaimed) == (
        *("complete", 50 * MIB, 50 * MIB),
    )
    assert done.calls == len(fake.requests) == len(progress)
    assert progress[-1] == (50 * MIB, 50 * MIB)
    assert done.before.current == 100 * MIB
    assert done.after is not None
    assert (done.after.current, done.after.swap) == (50 * MIB, 0)
    assert sum(size for size, _ in fake.requests) == 50 * MIB
    assert max(fake.requests)[0] <= 32 * MIB
    assert done.to_dict()["after"] == {
        "current": 50 * MIB,
        "anonymous": 50 * MIB,
        "file": 0,
        "shmem": 0,
        "swap": 0,
    }


@pytest.mark.parametrize("left", [0, 1, 3 * MIB, 20 * MIB])
def test_less_than_asked_for(fake: FakeCgroup, left: int) -> None:
    """What the kernel has not is "short", and no error; all that it has is taken."""
    fake.reclaimable = left
    done = pmadvise.reclaim(fake.root, 50 * MIB)
    assert (done.ended, done.reclaimed) == ("short", left)


def test_nothing(fake: FakeCgroup) -> None:
    """0 bytes are complete, and the kernel is not asked."""
    done = pmadvise.reclaim(fake.root, 0, stop=lambda: True, timeout=0)
    assert (done.ended, done.calls, done.reclaimed) == ("complete", 0, 0)


@given(
    kept=st.integers(0, 120 * MIB),
    size=st.integers(0, 200 * MIB),
    greed=st.floats(1, 2),
    file=st.sampled_from(["memory.min", "memory.low"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_protected_memory_stays(
    fake: FakeCgroup, kept: int, size: int, greed: float, file: str
) -> None:
    """memory.min and memory.low stay, though the kernel takes twice as much."""
    fake.charge(100 * MIB)
    fake.greed = greed
    (fake.root / file).write_text(f"{kept}\n")
    done = pmadvise.reclaim(fake.root, size)
    (fake.root / file).write_text("0\n")
    room = 100 * MIB - kept
    if not kept:
        assert done.ended == ("complete" if size <= 100 * MIB else "short")
        return
    assert fake.current >= min(kept, 100 * MIB)
    if 0 < size <= room - MIB or size == 0:
        assert done.ended == "complete"
        assert done.reclaimed >= size
    elif size > room:
        assert done.ended == "budget"
        assert done.reclaimed >= room - MIB


def test_all_protected(fake: FakeCgroup) -> None:
    """With memory.low "max" nothing is asked for."""
    (fake.root / "memory.low").write_text("max\n")
    done = pmadvise.reclaim(fake.root, MIB)
    assert (done.ended, fake.requests) == ("budget", [])


def test_floor_of_swap(fake: FakeCgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swap is left free, unless files alone are taken."""

    def free() -> Swap:
        used = 100 * MIB - fake.current
        return Swap(64 * MIB, 64 * MIB - used, True, ())

    monkeypatch.setattr(cgroup, "swap", free)
    done = pmadvise.reclaim(fake.root, 60 * MIB, swap_floor=32 * MIB)
    assert done.ended == "budget"
    assert 31 * MIB <= done.reclaimed <= 32 * MIB
    done = pmadvise.reclaim(fake.root, 10 * MIB, swap_floor=60 * MIB, swappiness=0)
    assert (done.ended, fake.requests[-1][1]) == ("complete", "swappiness=0")


@pytest.mark.parametrize(
    ("option", "ended"),
    [({"stop": lambda: True}, "cancelled"), ({"timeout": 0}, "timeout")],
)
def test_ended_at_once(fake: FakeCgroup, option: dict[str, Any], ended: str) -> None:
    """A limit that is reached at the start asks for nothing."""
    done = pmadvise.reclaim(fake.root, MIB, **option)
    assert (done.ended, done.calls, fake.requests) == (ended, 0, [])


def test_stopped_between_requests(fake: FakeCgroup) -> None:
    """stop() is asked before each request."""
    done = pmadvise.reclaim(fake.root, 90 * MIB, stop=lambda: len(fake.requests) == 2)
    assert (done.ended, done.calls) == ("cancelled", 2)
    assert done.reclaimed == sum(size for size, _ in fake.requests)


@pytest.mark.parametrize("value", [0, 60, 200, "max"])
def test_swappiness(fake: FakeCgroup, value: int | str) -> None:
    """It goes with each request; where the kernel does not know it, nothing moves."""
    assert pmadvise.reclaim(fake.root, MIB, swappiness=value).ended == "complete"
    assert {more for _, more in fake.requests} == {f"swappiness={value}"}
    fake.refuses = errno.EINVAL
    with pytest.raises(OSError, match=r"has reclaimed nothing.*6\.9") as caught:
        pmadvise.reclaim(fake.root, MIB, swappiness=value)
    assert caught.value.errno == errno.EINVAL
    assert caught.value.reclaimed.calls == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": -1}, "size -1 is negative"),
        ({"size": 1.5}, "size 1.5 is not an int"),
        ({"size": "1"}, "size '1' is not an int"),
        ({"swap_floor": -4}, "swap_floor -4 is negative"),
        ({"swappiness": 201}, "swappiness 201 is not 0 to 200"),
        ({"swappiness": -1}, "swappiness -1 is not 0 to 200"),
        ({"swappiness": "min"}, "swappiness 'min' is not 0 to 200"),
        ({"swappiness": True}, "swappiness True is not 0 to 200"),
        ({"swappiness": 60.0}, "swappiness 60.0 is not 0 to 200"),
        ({"timeout": float("nan")}, "timeout nan"),
        ({"stop": 1}, "stop 1 is not callable"),
        ({"on_progress": "x"}, "on_progress 'x' is not callable"),
    ],
)
def test_wrong_arguments(fake: FakeCgroup, options: Any, words: str) -> None:
    """They are refused before anything is taken, by name and value."""
    with pytest.raises((TypeError, ValueError), match=words):
        pmadvise.reclaim(fake.root, **{"size": MIB, **options})
    assert fake.requests == []


class StopHere(Exception):
    """Of a callback."""


def test_a_callback_raises(fake: FakeCgroup) -> None:
    """What it raises leaves, an OSError too, with the account so far."""
    for error in (StopHere(), BlockingIOError(errno.EAGAIN, "mine"), KeyError("x")):

        def fail(*_: int, error: Exception = error) -> None:
            raise error

        fake.charge(100 * MIB)
        with pytest.raises(type(error)) as caught:
            pmadvise.reclaim(fake.root, 50 * MIB, on_progress=fail)
        assert caught.value is error
        done = vars(error)["reclaimed"]
        assert (done.ended, done.calls, done.reclaimed) == ("cancelled", 1, 4 * MIB)


def test_removed_meanwhile(fake: FakeCgroup) -> None:
    """ENODEV says so; the account has no memory afterwards."""

    def remove(*_: int) -> None:
        for path in fake.root.iterdir():
            path.unlink()
        fake.refuses = errno.ENODEV

    with pytest.raises(OSError, match="has been removed") as caught:
        pmadvise.reclaim(fake.root, 50 * MIB, on_progress=remove)
    assert caught.value.errno == errno.ENODEV
    done = caught.value.reclaimed  # type: ignore[attr-defined]
    assert (done.calls, done.after) == (1, None)


def test_the_root_counts_itself(fake: FakeCgroup) -> None:
    """It has no memory.current, nor a count of its swap."""
    (fake.root / "memory.current").unlink()
    (fake.root / "memory.swap.current").unlink()
    with pytest.raises(FileNotFoundError):
        assert fake.current
    text = f"anon {8 * MIB}\nfile {4 * MIB}\nkernel {2 * MIB}\nshmem 0\n"
    (fake.root / "memory.stat").write_text(text)
    done = pmadvise.reclaim(fake.root, 0)
    assert (done.before.current, done.before.swap) == (14 * MIB, None)


def test_a_clock_that_stands_still(
    fake: FakeCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may take no time at all, by a coarse clock or one that is mocked."""
    monkeypatch.setattr(cgroup, "time", SimpleNamespace(monotonic=lambda: 7.0))
    assert pmadvise.reclaim(fake.root, 50 * MIB).ended == "complete"
