"""Types: what mypy accepts and what it refuses."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
from helpers.needs import ROOT

mypy = pytest.mark.needs_tool("mypy")
sources = pytest.mark.needs_sources

# What a user's program looks like to a type checker.
USE = """
import threading
from collections.abc import Callable
from typing_extensions import assert_type
import pmadvise
from pmadvise import (
    Advice, AdviseOptions, AddressSpace, Cancel, Hold, Memory, PidfdLike, Process,
    Ranges, Report, Skip, Status, Support, Vma,
)

def advise(pidfd: PidfdLike, ranges: Ranges) -> int:
    assert_type(pmadvise.process_madvise(pidfd, ranges, Advice.COLD), int)
    pmadvise.process_madvise(pidfd, [(0, 4096)], 20)
    return pmadvise.process_madvise_range(pidfd, 0, 4096, Advice.PAGEOUT)

def whole(process: Process, options: AdviseOptions, cancel: threading.Event) -> Report:
    assert_type(process.maps(), AddressSpace)
    assert_type(process.maps()[0], Vma)
    assert_type(process.maps()[1:], list[Vma])
    assert_type(process.status(), Status)
    assert_type(process.memory(), Memory)
    idle = process.maps().select(anonymous=True, path="*.so") & process.resident()
    assert_type(idle, Ranges)
    assert_type(idle[0], tuple[int, int])
    process.pageout(**options)
    process.cold(idle, max_stall=None, timeout=1, cancel=cancel)
    with process.hold("ptrace", timeout=0.5) as hold:
        assert_type(hold, Hold)
    report = process.advise([(0, 4096)], Advice.COLD, on_progress=lambda a, b: None)
    assert_type(report.skipped, tuple[Skip, ...])
    return report

def host(pid: int) -> Support:
    with pmadvise.Process(pid) as process:
        assert_type(process, Process)
    return pmadvise.support(pid)
"""


@pytest.fixture(scope="module")
def errors_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Type-check a program that imports the package; return mypy's errors in it."""
    directory = tmp_path_factory.mktemp("mypy")  # with a cache: one run is slow
    numbers = itertools.count()

    def check(source: str) -> list[str]:
        program = directory / f"program{next(numbers)}.py"
        program.write_text(source, encoding="utf-8")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
                *("--config-file=", f"--cache-dir={directory}", str(program)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode in (0, 1), done.stdout
        lines = done.stdout.split("\n")
        return [line for line in lines if line.startswith(str(program))]

    return check


@sources
@pytest.mark.slow
@mypy
def test_a_user_s_program_is_accepted(errors_of: Callable[[str], list[str]]) -> None:
    """The public types are as precise as the documentation promises."""
    assert errors_of(USE) == []


@sources
@pytest.mark.slow
@mypy
@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("advise(vmas)", 'incompatible type "VmaArray"; expected "RangeArray"'),
        ("advise(threads)", 'incompatible type "ThreadArray"; expected "RangeArray"'),
        ("vmas.cut(vmas)", 'incompatible type "VmaArray"; expected "RangeArray"'),
        ("process.advise(1, 20)", "incompatible type"),
        ("process.cold(max_stal=1)", 'keyword argument "max_stal"'),
        ("process.hold(3)", "incompatible type"),
        ("process.pid = 1", "read-only"),
    ],
)
def test_a_mistake_is_refused(
    errors_of: Callable[[str], list[str]], statement: str, error: str
) -> None:
    """An array of one kind is not taken for another, nor a keyword misspelled."""
    program = f"""
from pmadvise import Process
from pmadvise._native.maps import VmaArray
from pmadvise._native.ranges import RangeArray
from pmadvise._native.task import ThreadArray

def advise(ranges: RangeArray) -> None: ...

def use(process: Process, vmas: VmaArray, threads: ThreadArray) -> None:
    {statement}
"""
    found = errors_of(program)[0]
    assert error in found
