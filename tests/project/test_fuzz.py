"""The fuzzing harnesses reach every function of csrc/, and their seeds pass."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.builds import once
from helpers.needs import ROOT
from stress.fuzz import run as driver

FLAGS = "-std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
CSRC = ROOT / "csrc"
BOUND = "while (written < capacity"
"""In the source of what is fuzzed as `pieces`."""

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]


def sources() -> dict[str, str]:
    """Return the text of each harness."""
    return {
        name: (driver.HERE / f"{name}.c").read_text(encoding="utf-8")
        for name in driver.HARNESSES
    }


def test_every_function_is_fuzzed() -> None:
    """Each exported function is called by a harness."""
    called = set(re.findall(r"\b(pmadvise_\w+)\(", "".join(sources().values())))
    assert len(driver.exported()) > 40
    assert driver.exported() - called == set()


def test_a_new_function_is_missed() -> None:
    """What the header declares is read whole, and types are no functions."""
    names = driver.exported()
    assert {"pmadvise_ranges_batch", "pmadvise_ptrace_refused"} <= names
    assert not any(name in names for name in ("pmadvise_range", "pmadvise_status"))


def test_every_harness_has_seeds() -> None:
    """There is a folder of seeds for each harness, and for nothing else."""
    folders = {path.parent.name for path in driver.SEEDS.glob("*/*")}
    assert folders == set(driver.HARNESSES)


def compile_into(directory: Path, *sources: Path) -> None:
    """Compile sources to objects of their names."""
    command: list[Path | str] = ["gcc", *FLAGS.split(), "-c", *sources]
    subprocess.run(command, cwd=directory, check=True, timeout=120)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The objects that all harnesses are linked with, by their names."""
    names = (*driver.SHARED, driver.REPLAY)
    sources = [*CSRC.glob("*.c"), *(driver.HERE / f"{name}.c" for name in names)]
    directory = once(
        tmp_path_factory, "fuzz", lambda directory: compile_into(directory, *sources)
    )
    return {path.name: path for path in directory.glob("*.o")}


def linked(harness: str, objects: dict[str, Path], directory: Path) -> Path:
    """Link a harness to a program that takes files."""
    program = directory / harness
    wraps = [f"-Wl,--wrap={name}" for name in driver.WRAPPED]
    source = driver.HERE / f"{harness}.c"
    command: list[Path | str] = [
        "gcc",
        *FLAGS.split(),
        *wraps,
        *objects.values(),
        source,
    ]
    subprocess.run([*command, "-o", program], check=True, timeout=120)
    return program


def replayed(program: Path, harness: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *sorted((driver.SEEDS / harness).iterdir())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.needs_compiler
@pytest.mark.needs_sanitizers
@pytest.mark.parametrize("harness", driver.HARNESSES)
def test_seeds_pass(tmp_path: Path, common: dict[str, Path], harness: str) -> None:
    """No seed makes csrc/ touch a byte out of bounds or break a promise."""
    done = replayed(linked(harness, common, tmp_path), harness)
    assert (done.returncode, "ERROR" in done.stdout) == (0, False), done.stdout


@pytest.mark.slow
@pytest.mark.needs_compiler
@pytest.mark.needs_sanitizers
def test_a_fault_is_seen(tmp_path: Path, common: dict[str, Path]) -> None:
    """A function that writes past its array makes the harness fail on the seeds."""
    csrc = tmp_path / "csrc"
    shutil.copytree(CSRC, csrc)
    (source,) = (path for path in csrc.glob("*.c") if BOUND in path.read_text())
    source.write_text(source.read_text().replace(BOUND, BOUND.replace("<", "<=")))
    compile_into(tmp_path, source)
    objects = {**common, **{path.name: path for path in tmp_path.glob("*.o")}}
    done = replayed(linked("pieces", objects, tmp_path), "pieces")
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stdout
