"""A stand-in for the sysfs interface of DAMON: directories of files, and a kdamond.

Real kernels have it in tests/vm/proofs.py. What a test says was touched makes the ages
of the regions that hold it 0 at the next window; all others grow older by a window.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmadvise import Ranges
from pmadvise._idle import damon
from pmadvise._native.base import check
from pmadvise._native.descriptor import Descriptor

FILES = {
    "nr_kdamonds": ("state", "contexts/nr_contexts"),
    "nr_contexts": (
        *("avail_operations", "operations", "targets/nr_targets"),
        *(f"monitoring_attrs/intervals/{n}_us" for n in ("sample", "aggr", "update")),
        *("monitoring_attrs/nr_regions/min", "monitoring_attrs/nr_regions/max"),
        "schemes/nr_schemes",
    ),
    "nr_targets": ("pid_target", "regions/nr_regions"),
    "nr_regions": ("start", "end"),
    "nr_schemes": (
        *("action", "tried_regions/total_bytes"),
        *(f"watermarks/{n}" for n in ("interval_us", "high", "mid", "low")),
        *(
            f"access_pattern/{name}/{end}"
            for name in ("sz", "nr_accesses", "age")
            for end in ("min", "max")
        ),
    ),
}


class FakeDamon:
    """Its directory, and what the kernel would do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.operations = "vaddr\nfvaddr\npaddr\n"
        self.refuses_on = 0
        self.has_tried_regions = True
        self.ages: dict[tuple[int, int], int] = {}
        self.touched = Ranges()
        self.starts = 0
        root.mkdir()
        (root / "nr_kdamonds").write_text("0\n")

    def of_kdamond(self, path: str) -> Path:
        """Return a file of the one kdamond."""
        return self.root / "0" / path

    def write(self, path: str, value: object) -> None:
        """Write to a file, as the package does, and react."""
        file = Path(path)
        Descriptor.open(path).close()  # the package raises it, if there is none
        if file.name in FILES and "monitoring_attrs" not in path:
            self._make(file, int(str(value)))
        elif file.name == "state":
            value = self._command(str(value))
        file.write_text(f"{value}\n")

    def _make(self, number: Path, n: int) -> None:
        for old in number.parent.glob("[0-9]*"):
            shutil.rmtree(old)
        for index in range(n):
            for name in FILES[number.name]:
                made = number.parent / str(index) / name
                if "tried_regions" in name and not self.has_tried_regions:
                    continue
                made.parent.mkdir(parents=True, exist_ok=True)
                made.write_text("0\n")
        if number.name == "nr_contexts" and n:
            (number.parent / "0/avail_operations").write_text(self.operations)
        if number.name == "nr_kdamonds" and n:
            self.of_kdamond("state").write_text("off\n")

    def _command(self, command: str) -> str:
        state = self.of_kdamond("state")
        if command == "on":
            check(-self.refuses_on, "state")
            regions = self.of_kdamond("contexts/0/targets/0/regions")
            self.ages = {self._region(one): 0 for one in regions.glob("[0-9]*")}
            self.starts += 1
            return command
        if command == "off":
            return command
        if state.read_text() != "on\n":
            check(-errno.EINVAL, "state")
        self._window()
        return "on"

    @staticmethod
    def _region(directory: Path) -> tuple[int, int]:
        return (
            int((directory / "start").read_text()),
            int((directory / "end").read_text()),
        )

    def _window(self) -> None:
        """Let a window go by, and show the regions that were not touched in it."""
        tried = self.of_kdamond("contexts/0/schemes/0/tried_regions")
        for old in tried.glob("[0-9]*"):
            shutil.rmtree(old)
        for index, (start, end) in enumerate(sorted(self.ages)):
            is_touched = (self.touched & Ranges([(start, end - start)])).total
            self.ages[start, end] = 0 if is_touched else self.ages[start, end] + 1
            if not is_touched:
                region = tried / str(index)
                region.mkdir()
                values = {"start": start, "end": end, "age": self.ages[start, end]}
                for name, value in values.items():
                    (region / name).write_text(f"{value}\n")
        self.touched = Ranges()


def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeDamon]:
    """Put it in the place of the kernel's; check that it is left as it was."""
    root = tmp_path / "kdamonds"
    fake = FakeDamon(root)
    for name in ("_NUMBER", "_KDAMOND", "_CONTEXT", "_SCHEME", "_TRIED", "_WATERMARKS"):
        path = getattr(damon, name)
        monkeypatch.setattr(damon, name, path.replace(damon._ADMIN, str(root)))
    monkeypatch.setattr(damon, "_MOST_REGIONS", 100)  # each is a directory
    monkeypatch.setattr(damon, "_write", fake.write)
    monkeypatch.setattr(damon, "_knows_processes", lambda: True)
    monkeypatch.setattr(damon, "running_module", lambda: None)
    yield fake
