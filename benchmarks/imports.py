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

from benchmarks.harness import Benchmark, Bound, Plan, Plot, Row, there_and_back

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "bare": "",
    "import": "import pmadvise",
    "Process": "from pmadvise import Process",
}
MEMORY = "\nprint(open('/proc/self/smaps_rollup').read())"


def seconds(
    name: str, code: str, environment: Mapping[str, str]
) -> Mapping[str, float]:
    """Return the time from before an interpreter starts to behind its end."""
    begin = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
    return {name: perf_counter() - begin}


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
    found = dict(
        there_and_back(
            *(
                partial(seconds, name, code, environment)
                for name, code in PROGRAMS.items()
            )
        )
    )
    for name, code in PROGRAMS.items():
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
                bound=Bound(0.6),
            ),
            Row(
                "import of Process: added time vs a bare interpreter",
                "Process over",
                per="bare",
                bound=Bound(2),
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
    )


BENCHMARK = Benchmark("import", "Import", set_up, 25)
