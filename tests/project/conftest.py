"""Fixtures of the tests of docs/examples/pressured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.daemon import FULL, FakeCgroup, Idle

from pmadvise import Swap


@pytest.fixture
def idle() -> Iterator[Idle]:
    target = Idle()
    yield target
    target.close()


@pytest.fixture
def full(idle: Idle, tmp_path: Path) -> FakeCgroup:
    """A cgroup that stays full, with the idle process in it."""
    return FakeCgroup(tmp_path / "group", idle.pid, **FULL)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the daemon logs."""
    import relief  # noqa: PLC0415 - not beside an installed package
    import telemetry  # noqa: PLC0415

    found: list[dict[str, Any]] = []

    def log(event: str, **fields: Any) -> None:
        found.append({"event": event, **fields})

    monkeypatch.setattr(relief, "log", log)
    monkeypatch.setattr(telemetry, "log", log)
    return found


@pytest.fixture
def fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> Callable[..., Any]:
    """Make a full cgroup of two, whose processes and answers are fakes."""
    import relief  # noqa: PLC0415 - not beside an installed package
    import whole  # noqa: PLC0415
    from helpers.daemon_fleet import Fleet  # noqa: PLC0415

    def make(*options: str) -> Any:
        made = Fleet(tmp_path / "fleet", *options)
        clock = SimpleNamespace(monotonic=lambda: 0.0)  # no act takes long
        monkeypatch.setattr(relief, "time", clock)
        monkeypatch.setattr(relief, "advise_each", made.advise_each)
        monkeypatch.setattr(relief, "swap", lambda: Swap(1 << 30, 1 << 30, True))
        monkeypatch.setattr(whole, "reclaim", made.reclaim)
        return made

    return make
