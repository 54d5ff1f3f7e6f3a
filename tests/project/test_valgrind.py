"""The C code and what passes arrays to it, under valgrind's memcheck.

valgrind knows no process_madvise(2), so this is about arrays and texts. It sees what
AddressSanitizer does not: memory that is used and was never written.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from helpers.builds import plain
from helpers.needs import ROOT

DEADLINE = 300

pytestmark = [
    pytest.mark.no_swap,
    pytest.mark.slow,
    pytest.mark.needs_sources,
    pytest.mark.needs_compiler,
    pytest.mark.needs_valgrind,
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with lines for errors, and nothing optimized away."""
    return plain(tmp_path_factory)


def errors(package: Path, report: Path, *arguments: str) -> tuple[str, list[str]]:
    """Run the program that marshals, and let valgrind write a report.

    Returns:
        Its output, and the kinds of the errors with a function of ours in the stack:
        others are Python's own.
    """
    done = subprocess.run(
        [
            *("valgrind", "--xml=yes", f"--xml-file={report}", "--error-limit=no"),
            *("--num-callers=40", sys.executable, "-m", "helpers.marshalling"),
            *arguments,
        ],
        cwd=package,
        env={
            **os.environ,
            "PYTHONPATH": f"{package}:{ROOT / 'tests'}",
            # Python's own allocator would hide from valgrind where an array ends.
            "PYTHONMALLOC": "malloc",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    found = [
        f"{kind} in {frame.findtext('fn')}"
        for error in ET.parse(report).iter("error")
        # with XML, leaks are looked for whatever the options: Python's modules stay
        if not (kind := error.findtext("kind") or "").startswith("Leak_")
        for frame in error.iter("frame")
        if Path(frame.findtext("obj") or "").name.startswith("_ffi.")
    ]
    return done.stdout, found


def test_marshalling_is_clean(package: Path, tmp_path: Path) -> None:
    """Nothing of ours reads what is out of bounds or was never written."""
    assert errors(package, tmp_path / "report.xml") == ("done\n", [])


def test_a_read_past_an_array_is_seen(package: Path, tmp_path: Path) -> None:
    """An error in our code is reported with its function: the run is not blind."""
    _, found = errors(package, tmp_path / "report.xml", "fault")
    assert "InvalidRead in pmadvise_ranges_total" in found
