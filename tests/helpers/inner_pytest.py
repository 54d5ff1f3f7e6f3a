"""A run of pytest within a test: a module of its own, the conftest of these tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers.needs import ROOT


def outcomes(tmp_path: Path, program: str, *options: str) -> tuple[int, list[str]]:
    """Run pytest on a module with the conftest of these tests.

    Returns:
        The exit status, and the lines of the summary.
    """
    (tmp_path / "test_program.py").write_text(program)
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider"),
            *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)),
            *("--color=no", *options, str(tmp_path)),
        ],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "COLUMNS": "200"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    summary = done.stdout.partition("short test summary info")[2].split("\n")[1:]
    return done.returncode, [line.strip() for line in summary if line.strip()]
