"""Builds of the package from copies of its sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from helpers.needs import ROOT, sanitizers

FOLDERS = ("csrc", "pmadvise")
SANITIZED = "-fsanitize=address,undefined -fno-sanitize-recover=all -g -O1"
FILES = ("LICENSE", "README.md", "build_pmadvise.py", "pyproject.toml", "setup.py")


def copy_sources(directory: Path) -> None:
    """Copy what the package is built from, as setuptools builds beside its sources."""
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name,
            directory / name,
            ignore=shutil.ignore_patterns("*.so", "*.o", "_ffi.c", "__pycache__"),
        )
    for name in FILES:
        shutil.copy(ROOT / name, directory)


def build_in_place(directory: Path, **environment: str) -> None:
    """Build the extension of a copy into its package."""
    _run(directory, "setup.py", "-q", "build_ext", "--inplace", **environment)


def build_sanitized(directory: Path) -> dict[str, str]:
    """Build a copy of the package with both sanitizers of gcc.

    Returns:
        The environment in which Python imports the copy.
    """
    copy_sources(directory)
    build_in_place(directory, CC="gcc", CFLAGS=SANITIZED)
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(sanitizers() or ()),
        "PYTHONPATH": str(directory),
        # Python's own allocator would hide from ASan where an array ends.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }


def build_dists(directory: Path, output: Path) -> tuple[Path, Path]:
    """Build the sdist of a copy and the wheel from it, with the tools installed here.

    Returns:
        The paths of the sdist and of the wheel.
    """
    sdist = _backend(directory, "build_sdist", output)
    with tarfile.open(sdist) as archive:
        archive.extractall(output, filter="data")
    unpacked = output / sdist.name.removesuffix(".tar.gz")
    return sdist, _backend(unpacked, "build_wheel", output)


def _backend(directory: Path, hook: str, output: Path) -> Path:
    """Call a hook of PEP 517; what it builds is the newest file in `output`."""
    before = set(output.iterdir())
    code = f"from setuptools import build_meta; build_meta.{hook}({str(output)!r})"
    _run(directory, "-c", code)
    (built,) = set(output.iterdir()) - before
    return built


def _run(directory: Path, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
