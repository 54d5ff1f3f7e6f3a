"""Callers that end in every way, at any instant: their target always runs on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import proc
from helpers.hold_programs import ADVISER
from helpers.needs import ROOT
from helpers.stress_rounds import Stress, in_freezer
from helpers.stress_targets import CALM, StressTarget
from helpers.waiting import until

from pmadvise.hold import METHODS

ENDS = {
    "SIGKILL": (-9,),
    "SIGTERM": (-15,),
    "SIGINT": (-2, 1),
    "_exit": (3,),
    "abort": (-6,),
    "exec": (0,),
    "sys_exit": (3,),
    "exception": (1,),
    "shutdown": (0,),
    "daemon": (0,),
    "thread": (0,),
}
"""The ends, and the exit statuses that they may have."""

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_compiler]


def end_a_caller(target: StressTarget, method: str, end: str, seconds: float) -> None:
    """Start a caller, let it end after so many seconds, and look at the target."""
    with subprocess.Popen(
        [sys.executable, "-c", ADVISER, str(target.pid), method, end, str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "ready\n"
        if end.startswith("SIG"):
            time.sleep(seconds)  # the instant, not a synchronisation
            caller.send_signal(getattr(signal, end))
        assert caller.wait(60) in ENDS[end], f"{method}, {end}"
    target.goes_on()
    until(lambda: proc.stat(target.pid)[0] not in "Tt", "it is not stopped")
    assert target.wrong == 0


@pytest.mark.parametrize("end", ENDS)
def test_callers(stress: Stress, end: str) -> None:
    """However and whenever a caller ends, in a hold or not, the target runs on."""
    rng: random.Random = stress.rng("callers", end)
    until_then = time.monotonic() + stress.share(0.02)
    target = StressTarget(CALM, 1)
    with in_freezer(target, "callers") as cgroup:
        methods = [method for method in METHODS if cgroup or method != "freezer"]
        while True:
            for method in methods if stress.seconds else [rng.choice(methods)]:
                end_a_caller(target, method, end, rng.uniform(0.0001, 0.03))
                stress.count("callers_ended")
            if time.monotonic() >= until_then:
                break
        if cgroup is not None:
            assert not cgroup.frozen()
            state = Path(cgroup.path, "cgroup.freeze").read_text()
            assert state == "0\n"
