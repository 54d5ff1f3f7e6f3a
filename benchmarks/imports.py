"""What `import pmadvise` takes: time and memory, over a bare interpreter's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row

ROOT = Path(__file__).parents[1]
BARE = 0.010
"""The seconds that a bare interpreter takes on the machine of the bounds."""
IMPORT, PROCESS = 0.015, 0.030
"""The bounds there, over that."""
PROGRAMS = {
    "bare": "",
    "import": "import pmadvise",
    "Process": "from pmadvise import Process",
}
MEMORY = "\nprint(open('/proc/self/smaps_rollup').read())"


def seconds(code: str, environment: Mapping[str, str]) -> float:
    """Return the time from before an interpreter starts to behind its end."""
    begin = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
    return perf_counter() - begin


def private_bytes(code: str, environment: Mapping[str, str]) -> int:
    """Return the memory that is an interpreter's own after the code."""
    text = subprocess.check_output(
        [sys.executable, "-c", code + MEMORY], cwd=ROOT, env=environment, text=True
    )
    fields = dict(line.split(":", 1) for line in text.split("\n") if "kB" in line)
    private = (fields["Private_Clean"], fields["Private_Dirty"])
    return sum(int(value.split()[0]) << 10 for value in private)


def start(environment: Mapping[str, str]) -> Mapping[str, float]:
    """Return the seconds and bytes of each program, over those of the bare one."""
    found = {}
    for name, code in PROGRAMS.items():
        found[name] = seconds(code, environment)
        found[f"{name} bytes"] = private_bytes(code, environment)
    over = {
        f"{name}{what} over": found[f"{name}{what}"] - found[f"bare{what}"]
        for name in ("import", "Process")
        for what in ("", " bytes")
    }
    return {**found, **over}


def set_up(stack: ExitStack) -> Plan:
    """Let the modules be compiled: that is done once, not at each import."""
    del stack
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE"
    }
    for _ in range(2):
        start(environment)
    return Plan(
        cases=[partial(start, environment)],
        rows=[
            *(
                Row(label, name, "ms", scale=1e3)
                for label, name in (
                    ("a bare interpreter", "bare"),
                    ("import pmadvise, over that", "import over"),
                    ("with Process, over that", "Process over"),
                )
            ),
            Row(
                "import pmadvise: added time vs a bare interpreter",
                "import over",
                per="bare",
                bound=Bound(IMPORT / BARE),
            ),
            Row(
                "import of Process: added time vs a bare interpreter",
                "Process over",
                per="bare",
                bound=Bound(PROCESS / BARE),
            ),
            *(
                Row(label, name, "MiB", scale=2**-20)
                for label, name in (
                    ("memory of import pmadvise", "import bytes over"),
                    ("memory with Process", "Process bytes over"),
                )
            ),
        ],
        rounds=60,
        plot=Plot(
            "",
            "ms over a bare interpreter",
            {
                "time": [
                    ("import pmadvise", "import over"),
                    ("with Process", "Process over"),
                    ("(a bare interpreter)", "bare"),
                ]
            },
            scale=1e3,
            log=False,
        ),
        notes=[
            f"the bounds are {1000 * IMPORT:g} and {1000 * PROCESS:g} ms on a machine "
            f"where a bare interpreter takes {1000 * BARE:g} ms: so, of any machine, "
            f"{IMPORT / BARE:g} and {PROCESS / BARE:g} times a bare interpreter"
        ],
    )


BENCHMARK = Benchmark("import", "Import", set_up, 40)
