"""Builds of the package from copies of its sources."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

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


def once(
    factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]
) -> Path:
    """Return a folder that is built by the first test of a run that needs it.

    The workers of pytest-xdist share it: their folders are in one.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    directory, done = shared / f"built-{name}", shared / f"built-{name}.done"
    with open(shared / f"built-{name}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            build(directory)
            done.touch()
    return directory


def plain(factory: pytest.TempPathFactory) -> Path:
    """Return a built copy of the package, with lines for errors, nothing optimized."""

    def build(directory: Path) -> None:
        copy_sources(directory)
        build_in_place(directory, CC="gcc", CFLAGS="-g -O0")

    return once(factory, "plain", build)


def rebuild(directory: Path, sources: Iterable[Path]) -> None:
    """Compile sources of a built copy anew, and link its extension."""
    objects = {path.stem: path for path in (directory / "build").rglob("*.o")}
    for source in sources:
        _compile("-c", "-fPIC", source, "-o", objects[source.stem])
    (extension,) = (directory / "pmadvise").glob("_ffi*.so")
    _compile("-shared", *objects.values(), "-o", extension)


def _compile(*arguments: str | Path) -> None:
    subprocess.run(["gcc", *arguments], check=True, timeout=120)


def build_sanitized(directory: Path) -> None:
    """Build a copy of the package with both sanitizers of gcc."""
    copy_sources(directory)
    build_in_place(directory, CC="gcc", CFLAGS=SANITIZED)


def sanitized_environment(directory: Path) -> dict[str, str]:
    """Return the environment in which Python imports a copy with sanitizers."""
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(sanitizers() or ()),
        "PYTHONPATH": str(directory),
        # Python's own allocator would hide from ASan where an array ends.
        "PYTHONMALLOC": "malloc",
        # A short stack of each allocation is quick, and enough for a report.
        "ASAN_OPTIONS": (
            "detect_leaks=0:allocator_may_return_null=1:malloc_context_size=3"
        ),
    }


def build_dists(directory: Path, output: Path) -> tuple[Path, Path]:
    """Build the sdist of a copy and the wheel from it, with the tools installed here.

    Returns:
        The paths of the sdist and of the wheel.
    """
    sdist = _backend(directory, "build_sdist", output)
    # Not by tarfile: 3.11.2, bookworm's, has no filter, and 3.12 warns without one.
    subprocess.run(["tar", "-xf", sdist, "-C", output], check=True)
    unpacked = output / sdist.name.removesuffix(".tar.gz")
    return sdist, _backend(unpacked, "build_wheel", output)


def _backend(directory: Path, hook: str, output: Path) -> Path:
    """Call a hook of PEP 517; what it builds is the newest file in `output`."""
    before = set(output.iterdir())
    code = f"from setuptools import build_meta; build_meta.{hook}({str(output)!r})"
    _run(directory, "-c", code, CFLAGS="-O0")  # what is in it is looked at
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
