"""The machine that the numbers are of."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pmadvise


@dataclass(frozen=True)
class Machine:
    """What a reader has to know to compare numbers."""

    cpu: str
    cpus: int
    """That this may use."""
    memory: int
    """Bytes."""
    kernel: str
    architecture: str
    python: str
    pmadvise: str
    """Where it was imported from."""
    date: str
    """UTC."""
    load: float
    """The average of a minute, at the start: of others' work."""

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine, now."""
        return cls(
            cpu=_cpu(),
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PHYS_PAGES") * pmadvise.PAGE_SIZE,
            kernel=platform.release(),
            architecture=platform.machine(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            pmadvise=os.path.dirname(os.path.abspath(pmadvise.__file__)),
            date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
            load=os.getloadavg()[0],
        )

    def __str__(self) -> str:
        """Return it as a line."""
        return (
            f"{self.cpus} CPUs of {self.cpu} ({self.architecture}), "
            f"{self.memory / 2**30:.0f} GiB, Linux {self.kernel}, {self.python}, "
            f"{self.date} UTC, load {self.load:.2f}"
        )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().split("\n"):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "cpu", "Model"):
            return value.strip()
    return platform.processor() or "an unnamed CPU"
