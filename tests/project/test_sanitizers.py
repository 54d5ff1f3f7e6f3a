"""The C code under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.builds import build_sanitized, once, sanitized_environment
from helpers.needs import ROOT

DEADLINE = 600

pytestmark = [
    pytest.mark.no_swap,
    pytest.mark.slow,
    pytest.mark.needs_sources,
    pytest.mark.needs_compiler,
    pytest.mark.needs_sanitizers,
]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A copy of the package built with both, as the environment that imports it."""
    return sanitized_environment(once(tmp_path_factory, "sanitized", build_sanitized))


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=environment["PYTHONPATH"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def sanitized_tests() -> list[Path]:
    """Return the modules of tests/unit about mappings, ranges, calls and pages."""
    unit, kinds = ROOT / "tests/unit", ("maps", "ranges", "engine_account", "touch")
    return sorted(path for kind in kinds for path in unit.glob(f"test_{kind}*.py"))


def test_an_overflow_is_seen(sanitized: dict[str, str]) -> None:
    """A write past an array is reported with its line: the run is not blind."""
    ended = run(
        "import os\n"
        "from pmadvise._ffi import ffi, lib\n"
        "fd = os.memfd_create('maps')\n"
        "os.write(fd, b'1000-2000 rw-p 0 0:0 0 \\n' * 2)\n"
        "text = ffi.new('char[]', 1 << 16)\n"
        "vmas = ffi.new('struct pmadvise_vma[]', 1)\n"
        "state = ffi.new('struct pmadvise_maps_state *')\n"
        "lib.pmadvise_maps_read(fd, text, 1 << 16, vmas, 2, state)\n",
        sanitized,
    )
    assert ended.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in ended.stdout
    assert "csrc/maps.c:" in ended.stdout


def test_unit_tests_pass_sanitized(sanitized: dict[str, str]) -> None:
    """Those that give C much to read touch no byte out of bounds; .ci/run has all."""
    arguments = ["-qsx", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    arguments += ["-c", str(ROOT / "pyproject.toml"), *map(str, sanitized_tests())]
    arguments += ["--hypothesis-profile=few"]
    ended = run(
        "import gc, sys, pmadvise._ffi, pytest\n"
        "gc.set_threshold(50_000)\n"  # it is a tenth of the time otherwise
        f"assert pmadvise._ffi.__file__.startswith({sanitized['PYTHONPATH']!r})\n"
        f"sys.exit(pytest.main({arguments!r}))",
        sanitized,
    )
    assert ended.returncode == 0, ended.stdout
