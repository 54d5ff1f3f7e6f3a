"""Cgroups from another cgroup namespace, as in a container with the host's tree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.children import value_of_child
from helpers.hold_targets import Cgroup, Running, cgroup_of
from helpers.namespaces import bind_alone, unshare_cgroups
from helpers.targets import Target

from pmadvise import Process, Support, processes, reclaim, support
from pmadvise._proc.cgroups import is_frozen

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2]


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A cgroup of the test's own, of v2."""
    with cgroup_of(2) as made:
        yield made


@pytest.fixture
def places(cgroup: Cgroup) -> Iterator[dict[str, Cgroup]]:
    """Cgroups beside, above and below that of a caller: "caller"."""
    made = {}
    for name, path in (
        ("above", "x"),
        ("parent", "x/y"),
        ("caller", "x/y/caller"),
        ("sibling", "x/y/a"),
        ("cousin", "x/b"),
        ("below", "x/y/caller/in"),
    ):
        made[name] = cgroup.like(cgroup.path / path)
    yield made
    for place in reversed(made.values()):
        place.close()


PLACES = ["sibling", "cousin", "parent", "above", "below"]


def from_cgroup_namespace(caller: Cgroup, function: Callable[[], object]) -> object:
    """Return what a function returns in a cgroup namespace below the host's mounts."""

    def inside() -> object:
        caller.add(os.getpid())
        unshare_cgroups()
        return function()

    return value_of_child(inside)


@pytest.mark.parametrize("place", PLACES)
def test_members_from_a_cgroup_namespace(
    places: dict[str, Cgroup], target: Target, place: str
) -> None:
    """From another cgroup namespace the processes of a cgroup are found as ever."""
    places[place].add(target.pid)
    found = from_cgroup_namespace(
        places["caller"],
        lambda: [process.pid for process in processes(cgroup=places[place].path)],
    )
    assert target.pid in (found if isinstance(found, list) else [])


@pytest.mark.parametrize("place", PLACES)
def test_frozen_from_a_cgroup_namespace(
    places: dict[str, Cgroup], target: Target, place: str
) -> None:
    """From another cgroup namespace a frozen cgroup is seen to be frozen."""
    places[place].add(target.pid)
    proc = os.open(f"/proc/{target.pid}", os.O_RDONLY)
    control = places[place].path / "cgroup.freeze"

    def look() -> list[bool | None]:
        seen = [is_frozen(proc, target.pid, (2,))]
        if place not in ("parent", "above"):  # the caller would be frozen too
            places[place].freeze()
            seen.append(is_frozen(proc, target.pid, (2,)))
            control.write_text("0")
        return seen

    seen = from_cgroup_namespace(places["caller"], look)
    os.close(proc)
    assert seen in ([False, True], [False])


@pytest.mark.parametrize("place", ["sibling", "cousin", "below"])
def test_held_from_a_cgroup_namespace(places: dict[str, Cgroup], place: str) -> None:
    """From another cgroup namespace the freezer finds the target's cgroup."""
    running = Running()
    places[place].add(running.pid)

    def hold() -> tuple[bool, str | None]:
        with Process(running.pid) as process, process.hold("freezer", 600) as held:
            frozen = places[place].frozen()
        return frozen, held.broken

    try:
        assert from_cgroup_namespace(places["caller"], hold) == (True, None)
        running.goes_on()
    finally:
        running.close()


def test_limits_from_a_cgroup_namespace(places: dict[str, Cgroup]) -> None:
    """The caller's own cgroup is found below the host's mounts."""
    found = from_cgroup_namespace(places["caller"], support)
    assert isinstance(found, Support)
    assert found.cgroup == support().cgroup


def test_files_mounted_over_the_cgroups(cgroup: Cgroup, tmp_path: Path) -> None:
    """They are no cgroup: a FIFO among them could be waited for without an end."""
    fake = tmp_path / "fake"
    fake.mkdir()
    for name in ("cgroup.procs", "cgroup.controllers", "memory.stat"):
        (fake / name).touch()
    os.mkfifo(fake / "memory.reclaim")

    def inside() -> str:
        bind_alone(tmp_path, cgroup.path.parent)
        with pytest.raises(FileNotFoundError) as caught:
            reclaim(cgroup.path.parent / "fake", 1)
        return str(caught.value)

    assert "there is no cgroup" in value_of_child(inside)
