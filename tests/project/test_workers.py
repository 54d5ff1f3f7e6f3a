"""Tests in several workers: alike in each, isolated, and never endless."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.inner_pytest import outcomes
from helpers.waiting import until
from helpers.workers import ALONE, NO_SWAP, OWNS_SWAP, SHARES, Turns, keep_bytecode

WORKERS = ("-n", "2", "--dist", "loadgroup")
TURNS = """
import os, time
import pytest

@pytest.fixture
def log(request):
    fd = os.open(os.path.join(os.path.dirname(__file__), "log"), 0o2101 | os.O_APPEND)
    os.write(fd, f"begin {request.node.name}\\n".encode())
    yield
    os.write(fd, f"end {request.node.name}\\n".encode())
    os.close(fd)

@pytest.mark.isolated
@pytest.mark.parametrize("n", range(5))
def test_alone(log, n):
    time.sleep(0.01)  # so long that others would begin meanwhile

@pytest.mark.parametrize("n", range(25))
def test_other(log, n):
    time.sleep(0.01)
"""
HANGS = """
import os
import pytest

def test_hangs():
    os.read(os.pipe()[0], 1)

@pytest.mark.timeout(method="thread")
def test_hangs_with_signals_of_its_own():
    os.read(os.pipe()[0], 1)

def test_goes_on():
    pass
"""


def test_names_are_the_same_in_each_run(request: pytest.FixtureRequest) -> None:
    """No test is named by an object's address, as workers must collect the same."""
    names = [item.nodeid for item in request.session.items]
    assert [name for name in names if re.search(r" at 0x|object at", name)] == []


@pytest.mark.slow
def test_isolated_tests_are_alone(tmp_path: Path) -> None:
    """Nothing begins or ends between the begin and the end of an isolated test."""
    assert outcomes(tmp_path, TURNS, *WORKERS)[0] == 0
    lines = (tmp_path / "log").read_text().split("\n")[:-1]
    assert len(lines) == 2 * 30
    for n, line in enumerate(lines):
        if line.startswith("begin test_alone"):
            assert lines[n + 1] == line.replace("begin", "end")


@pytest.mark.slow
def test_isolated_tests_are_last(tmp_path: Path) -> None:
    """In one process, too, the isolated tests are run behind the others."""
    assert outcomes(tmp_path, TURNS)[0] == 0
    lines = (tmp_path / "log").read_text().split("\n")
    begun = [line.startswith("begin test_alone") for line in lines if "begin" in line]
    assert begun == [False] * 25 + [True] * 5


def is_locked(path: Path) -> bool:
    """Return whether somebody has a lock on a file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize(
    ("room", "wanted"), [("host", ALONE), ("swap", OWNS_SWAP)], ids=["host", "swap"]
)
def test_an_isolated_test_is_not_overtaken(
    tmp_path: Path, room: str, wanted: dict[str, int]
) -> None:
    """It waits for those that run, and who comes later waits for it."""
    order: list[str] = []

    def take(name: str, rooms: dict[str, int]) -> None:
        turns = Turns(tmp_path)
        with turns.turn(rooms):
            order.append(name)
        turns.close()

    turns = Turns(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        with turns.turn(SHARES):
            take("shares", SHARES)
            isolated = pool.submit(take, "isolated", wanted)
            until(lambda: is_locked(tmp_path / f"{room}-gate"), "it waits for the room")
            later = pool.submit(take, "later", SHARES)
            assert order == ["shares"]
        isolated.result(30)
        later.result(30)
    turns.close()
    assert order == ["shares", "isolated", "later"]


def test_without_swap_beside_its_owner(tmp_path: Path) -> None:
    """A test that uses no swap runs while another has it to itself, and no other."""
    turns, others = Turns(tmp_path), Turns(tmp_path)
    with turns.turn(OWNS_SWAP):
        assert is_locked(tmp_path / "swap-room")
        with others.turn(NO_SWAP):
            pass
    turns.close()
    others.close()


def test_bytecode_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program imports is compiled once, if not beside the sources."""
    folder, sources = tmp_path / "shared/bytecode", tmp_path / "sources"
    sources.mkdir()
    (sources / "module.py").touch()
    folder.parent.mkdir(0o700)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    keep_bytecode(folder)
    subprocess.run([sys.executable, "-c", "import module"], cwd=sources, check=True)
    assert [path.suffix for path in folder.glob("**/module.*")] == [".pyc"]
    assert [path.name for path in sources.iterdir()] == ["module.py"]


@pytest.mark.slow
def test_a_test_that_hangs_fails(tmp_path: Path) -> None:
    """One that waits for ever is a failure, and the others are run."""
    status, summary = outcomes(tmp_path, HANGS, *WORKERS, "--timeout=1")
    assert status == 1
    assert summary[-1].startswith("2 failed, 1 passed"), summary


CRASHES = """
import os, time, pytest

@pytest.mark.parametrize("n", range(24))
def test_one(n):
    time.sleep(0.02)
    if n == 15:
        os._exit(3)
"""


@pytest.mark.slow
def test_a_crash_is_one_failure(tmp_path: Path) -> None:
    """A test that ends its worker fails, and the run goes on to its end without it."""
    status, summary = outcomes(tmp_path, CRASHES, *WORKERS)
    assert (status, len(summary)) == (1, 2)
    assert summary[0].startswith("FAILED test_program.py::test_one[15]")
    assert summary[1].startswith("1 failed, 23 passed")
