"""The C code and what passes arrays to it, under valgrind's memcheck.

valgrind knows no process_madvise(2), so this is about arrays and texts. It sees what
AddressSanitizer does not: memory that is used and was never written.
"""

from __future__ import annotations

import os
import re
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


def errors_in(report: Path) -> list[str]:
    """Return the kinds of the errors with a function of ours in the stack.

    Others are Python's own.
    """
    return [
        f"{error.findtext('kind')} in {frame.findtext('fn')}"
        for error in ET.parse(report).iter("error")
        for frame in error.iter("frame")
        if Path(frame.findtext("obj") or "").name.startswith("_ffi.")
    ]


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """The errors of a run of the program that marshals, and of its child's fault.

    In a copy of the package with lines for errors, and nothing optimized away.
    """
    package, reports = plain(tmp_path_factory), tmp_path_factory.mktemp("reports")
    done = subprocess.run(
        [
            *("valgrind", "--xml=yes", f"--xml-file={reports}/%p", "--error-limit=no"),
            # with XML, leaks are looked for whatever the options: Python's modules stay
            *("--show-leak-kinds=none", "--num-callers=40"),
            *(sys.executable, "-m", "helpers.marshalling"),
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
    done_by = re.fullmatch(r"done (\d+) (\d+)\n", done.stdout)
    assert done_by, done.stdout
    return errors_in(reports / done_by[1]), errors_in(reports / done_by[2])


def test_marshalling_is_clean(errors: tuple[list[str], list[str]]) -> None:
    """Nothing of ours reads what is out of bounds or was never written."""
    assert errors[0] == []


def test_a_read_past_an_array_is_seen(errors: tuple[list[str], list[str]]) -> None:
    """An error in our code is reported with its function: the run is not blind."""
    assert "InvalidRead in pmadvise_ranges_total" in errors[1]
