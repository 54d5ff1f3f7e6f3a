"""Run tests with the C code built for AddressSanitizer and UndefinedBehaviorSanitizer.

    python tests/stress/sanitized.py [PYTEST ARGUMENT ...]

By default tests/unit and tests/kernel. A copy of the package is built with gcc in a
temporary directory, and pytest imports it from there. Processes that it starts do
without: the library makes mlock(2) do nothing, and other programs hang with it. A byte
out of bounds ends the process with a report; leaks are not looked for, as Python itself
leaves memory at its end. The exit status is that of pytest, or 1 if a process, be it
one that was forked and that pytest does not look at, wrote a report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.builds import build_sanitized, sanitized_environment
from helpers.needs import ROOT

RUN = """
import os, sys
sys.path[0] = os.environ["PYTHONPATH"]
import pmadvise._ffi
assert pmadvise._ffi.__file__.startswith(os.environ["PYTHONPATH"])
for name in ("LD_PRELOAD", "PYTHONMALLOC", "PYTHONPATH"):
    del os.environ[name]
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
FOLDERS = ("tests/unit", "tests/kernel")
FORKS = "tests/kernel/test_exec_alike.py"
"""Runs Python in a child before its exec, where a lock of ASan's may stay taken."""


def main(arguments: list[str]) -> int:
    """Build, run pytest, and print the reports of all processes."""
    with tempfile.TemporaryDirectory(prefix="pmadvise-sanitized-") as work:
        directory, reports = Path(work, "package"), Path(work, "reports")
        for path in (directory, reports):
            path.mkdir(mode=0o755)
        os.chmod(work, 0o755)  # tests give up root
        os.chmod(reports, 0o1777)
        build_sanitized(directory)
        environment = sanitized_environment(directory)
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            options = environment.get(name, "")
            environment[name] = f"{options}:log_path={reports}/report".lstrip(":")
        given = arguments
        if not any(Path(argument.partition("::")[0]).exists() for argument in given):
            given = [*given, *FOLDERS]
        status = subprocess.run(
            [
                *(sys.executable, "-c", RUN, "-p", "no:cacheprovider"),
                *("-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}"),
                *("--hypothesis-profile=few", f"--deselect={FORKS}", *given),
            ],
            env=environment,
            cwd=ROOT,
            check=False,
        ).returncode
        texts = [path.read_text(errors="replace") for path in reports.iterdir()]
        # that an allocation failed is a warning alone
        found = [text for text in texts if "ERROR" in text or "runtime error" in text]
        print(*found, sep="\n")
        print(f"{len(found)} reports of the sanitizers")
        return status or bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
