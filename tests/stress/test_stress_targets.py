"""Targets that map, fork and exec in four threads while they are held and advised."""

from __future__ import annotations

import functools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.stress_rounds import Stress, run
from helpers.stress_targets import CALM, STORM

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_compiler]

SHORT = 120
"""Rounds on each of the two series of targets."""


def goes_on(end: float, rounds: int) -> bool:
    """Return whether a long run goes on."""
    return time.monotonic() < end


@pytest.mark.parametrize("mode", [CALM, STORM])
def test_storm(stress: Stress, mode: str) -> None:
    """Whatever targets do meanwhile: true accounts, real holds, their memory intact."""
    another = SHORT.__gt__
    if stress.seconds:
        another = functools.partial(goes_on, time.monotonic() + stress.share(0.25))
    with ThreadPoolExecutor(2) as pool:
        series = [
            pool.submit(run, stress, f"{mode}-{n}", another, mode) for n in range(2)
        ]
        for one in series:
            one.result()
