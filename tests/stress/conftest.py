"""The run that all stress tests are part of, and its summary."""

from __future__ import annotations

import faulthandler
import json
import random
from collections.abc import Iterator

import pytest
from helpers.hold_targets import check_nothing_left, hold_census
from helpers.stress_rounds import Stress

_RUN = pytest.StashKey[Stress]()
DEFAULT_SEED = 20_260_101
"""The short run is the same each time; a long one has a seed of its own."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let the tests of a long run take as long as they are told to."""
    if item.config.getoption("stress_seconds"):
        item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def stress(request: pytest.FixtureRequest) -> Stress:
    """The run: its seed, its length, what it counts."""
    config = request.config
    seconds, seed = config.getoption("stress_seconds"), config.getoption("stress_seed")
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32) if seconds else DEFAULT_SEED
    config.stash[_RUN] = Stress(seed, seconds)
    return config.stash[_RUN]


@pytest.fixture(autouse=True)
def seed_in_reports(stress: Stress) -> None:
    """Print the seed, which pytest shows of a test that fails."""
    print(f"--stress-seed {stress.seed}")
    if stress.seconds:  # a test that takes minutes does not hang
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Check that a test leaves no descriptor, thread, child or hold behind."""
    before = hold_census()
    yield
    check_nothing_left(before)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what a long run did, as one line of JSON."""
    run = config.stash.get(_RUN, None)
    if run is None or not run.seconds:
        return
    tally = {
        "seed": run.seed,
        "seconds": run.seconds,
        **dict(sorted(run.tally.items())),
    }
    terminalreporter.section("stress")
    terminalreporter.write_line(json.dumps(tally))
