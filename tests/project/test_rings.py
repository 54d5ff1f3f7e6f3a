"""The rings: each is usable without the next, which is tried by leaving it out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.layers import RINGS, SPLIT, levels, outward, read_package, ring, room
from helpers.needs import ROOT
from helpers.targets import LRU_BATCH, MIB, Target

import pmadvise
from pmadvise import Advice

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]

PACKAGE = ROOT / "pmadvise"

ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        package, _, module = name.partition(".")
        if package == "pmadvise" and module and module not in PRESENT:
            raise ModuleNotFoundError(f"{name} is left out", name=name)

PRESENT = set(sys.argv[1].split())
sys.meta_path.insert(0, Absent())
"""
"""The start of a program in which the modules of the package are those of argv[1]."""

CALLS = """
import os
import pmadvise

pid, address, length, advice = map(int, sys.argv[2:])
pidfd = pmadvise.pidfd_open(pid)
print(pmadvise.process_madvise(pidfd, [(address, length)], pmadvise.Advice(advice)))
print(pmadvise.process_madvise_range(pidfd, address, length, advice))
try:
    pmadvise.process_madvise(pidfd, [(0, pmadvise.PAGE_SIZE)], advice)
except OSError as error:
    print(error.strerror)
try:
    pmadvise.Process(pid)
except ModuleNotFoundError as error:
    print(error)
"""

EVERY_NAME = """
import pmadvise

print(*[name for name in pmadvise.__all__ if getattr(pmadvise, name) is None])
with pmadvise.Process(int(sys.argv[2])) as process:
    print(process.cold().advised > 0)
"""


def run_with(rings: set[int], code: str, *arguments: object) -> str:
    """Return what a program prints that can import the modules of these rings alone."""
    present = [name for name in read_package(PACKAGE) if ring(name) in rings]
    done = subprocess.run(
        [
            *(sys.executable, "-c", ALONE + code),
            " ".join([*present, "_ffi"]),
            *map(str, arguments),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.needs_root
def test_first_ring_alone(target: Target) -> None:
    """Without any other module the two calls advise, and tell why they are refused."""
    address = target.filled(8 * MIB)
    assert target.smaps(address, "Referenced") >= 8 * MIB
    found = run_with({1}, CALLS, target.pid, address, 8 * MIB, Advice.COLD)
    advised, again, refused, absent = found.split("\n")[:-1]
    assert (advised, again) == (str(8 * MIB), str(8 * MIB))
    assert "a part of the first range is not mapped" in refused
    assert absent == "pmadvise.process is left out"
    assert target.smaps(address, "Referenced") <= LRU_BATCH


@pytest.mark.needs_root
def test_first_and_second_ring_alone(target: Target) -> None:
    """Without the command and the selftest every public name is there, and works."""
    target.filled(8 * MIB)
    assert run_with({1, 2}, EVERY_NAME, target.pid) == "\nTrue\n"


@pytest.mark.needs_compiler
def test_c_of_the_first_ring_links_alone(tmp_path: Path) -> None:
    """The files of C that the first ring calls have no symbol of the others."""
    sources = [
        path
        for path in (ROOT / "csrc").glob("*.c")
        if ring(f"_native.{path.stem}") == 1
    ]
    assert len(sources) > 2
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wl,-z,defs", "-o", tmp_path / "a.so", *sources],
        check=True,
        timeout=120,
    )


def test_no_ring_imports_an_outer_one() -> None:
    """No module of a ring imports one of the next, on the module's top or later."""
    assert outward(read_package(PACKAGE)) == []


def test_rings_are_of_what_exists() -> None:
    """Each name of a ring is a layer, or a module of a layer that is split."""
    modules = set(read_package(PACKAGE))
    named = [name for names in RINGS.values() for name in names.split()]
    assert len(named) == len(set(named))
    assert set(named) - modules - set(levels()) == set()
    assert {room(name) for name in named if "." in name} == SPLIT - {"_ffi"}


def test_public_names_are_of_the_first_two_rings() -> None:
    """What a program imports of the package is never of the ring for people."""
    assert {ring(module) for module in pmadvise._LAZY.values()} <= {1, 2}


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("calls", "from pmadvise.maps import Vma", "maps, of ring 2"),
        ("_reasons.access", "from . import reclaim", "_reasons.reclaim, of ring 2"),
        ("_proc.rights", "import pmadvise._proc.mounts", "_proc.mounts, of ring 2"),
        ("process", "from pmadvise import _streams", "_streams, of ring 3"),
        ("__init__", "from pmadvise.command.app import main", "command.app, of ring 3"),
        ("__init__", "from pmadvise.process import Process", ""),
        ("selftest", "from pmadvise.process import Process", ""),
    ],
)
def test_an_import_outward_is_found(module: str, source: str, found: str) -> None:
    """An import of an outer ring is reported, one of an inner ring is not."""
    sources = {**dict.fromkeys(read_package(PACKAGE), ""), module: source}
    assert outward(sources) == ([f"{module}: imports {found}"] if found else [])
