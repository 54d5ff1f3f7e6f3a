"""The C code under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -g -O1"
PURE = ["test_maps.py", "test_ranges.py"]

pytestmark = pytest.mark.skipif(
    not (HERE.parent / "csrc").exists(), reason="the sources are not beside the tests"
)


def runtime(name: str) -> str | None:
    """Return the path of a sanitizer's library, None if the compiler has none."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    path = subprocess.run(
        [compiler, f"-print-file-name={name}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    return path if os.path.isabs(path) else None


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A copy of the package built with both, as the environment that imports it."""
    libraries = [runtime("libasan.so"), runtime("libubsan.so")]
    if None in libraries:
        pytest.skip("no gcc, or it has no libasan and libubsan")
    directory = tmp_path_factory.mktemp("sanitized")
    shutil.copytree(
        HERE.parent / "pmadvise",
        directory / "pmadvise",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    # A copy: setuptools keeps what it has built beside the sources.
    shutil.copytree(HERE.parent / "csrc", directory / "csrc")
    for name in ("setup.py", "build_pmadvise.py", "pyproject.toml", "README.md"):
        shutil.copy(HERE.parent / name, directory)
    shutil.copy(HERE.parent / "LICENSE", directory)
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=directory,
        env={**os.environ, "CC": "gcc", "CFLAGS": FLAGS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert built.returncode == 0, built.stdout
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(path for path in libraries if path),
        "PYTHONPATH": str(directory),
        # Python's own allocator would hide from ASan where an array ends.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=environment["PYTHONPATH"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_an_overflow_is_seen(sanitized: dict[str, str]) -> None:
    """A write past an array is reported with its line: the run is not blind."""
    ended = run(
        "from pmadvise._ffi import ffi, lib\n"
        "text = b'1000-2000 rw-p 0 0:0 0 \\n' * 2\n"
        "vmas = ffi.new('struct pmadvise_vma[]', 1)\n"
        "lib.pmadvise_maps_parse(text, len(text), vmas, 2)\n",
        sanitized,
    )
    assert ended.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in ended.stdout
    assert "csrc/maps.c:" in ended.stdout


def test_pure_tests_pass_sanitized(sanitized: dict[str, str]) -> None:
    """The property tests touch no byte out of bounds and do nothing undefined."""
    arguments = ["-qsx", "-p", "no:cacheprovider", f"--rootdir={HERE.parent}"]
    arguments += ["--hypothesis-profile=sanitized", *(str(HERE / n) for n in PURE)]
    ended = run(
        "import sys, pmadvise._ffi, pytest\n"
        f"assert pmadvise._ffi.__file__.startswith({sanitized['PYTHONPATH']!r})\n"
        f"sys.exit(pytest.main({arguments!r}))",
        sanitized,
    )
    assert ended.returncode == 0, ended.stdout
