"""One address space: a handle and its snapshots after an exec."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.proc import open_files
from helpers.targets import PAGE, SHELL, Target, exec_shell, is_shell
from helpers.waiting import until

from pmadvise import Process, Ranges

root = pytest.mark.needs_root


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_exec_makes_a_snapshot_stale(target: Target, process: Process) -> None:
    """After an exec a snapshot is stale and changed, and reads the same."""
    space = process.maps()
    before = list(space)
    exec_shell(target)
    assert (space.stale, space.changed()) == (True, space.select())
    assert list(space) == before


@root
@pytest.mark.usefixtures("with_and_without_procmap_query")
@pytest.mark.parametrize("read", [Process.resident, Process.swapped])
def test_exec_and_pages(
    target: Target, process: Process, read: Callable[[Process], Ranges]
) -> None:
    """The pages of an address space that has gone are an error, until maps()."""
    process.maps()
    exec_shell(target)
    with pytest.raises(ProcessLookupError, match="exec'd"):
        read(process)
    process.maps()
    assert read(process) & process.maps().select() == read(process)
    assert process.alive is True


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_maps_binds_anew(target: Target, process: Process) -> None:
    """maps() after an exec is of the new address space; the old one stays stale."""
    old = process.maps()
    exec_shell(target)
    new = process.maps()
    assert (old.stale, new.stale, new.changed()) == (True, False, Ranges())
    assert is_shell(process)
    assert (process.alive, process.pid) == (True, target.pid)
    target.kill()
    assert (old.stale, new.stale) == (True, True)


@root
@pytest.mark.usefixtures("with_and_without_procmap_query")
@pytest.mark.parametrize("ranges", [None, [(PAGE, PAGE)]], ids=["default", "explicit"])
def test_exec_advises_nothing(
    target: Target, process: Process, ranges: list[tuple[int, int]] | None
) -> None:
    """After an exec nothing is advised until maps(), and the Report says so."""
    process.maps()
    exec_shell(target)
    report = process.cold(ranges)
    assert (report.ended, report.advised, report.calls) == ("exec", 0, 0)
    process.maps()
    report = process.cold()
    assert (report.ended, report.advised == report.requested > 0) == ("complete", True)


def test_opened_and_never_read_before_an_exec(target: Target) -> None:
    """A handle refers to the address space that it found when it was opened."""
    target.run("None")
    with Process(target.pid) as process:
        exec_shell(target)
        with pytest.raises(ProcessLookupError, match="exec'd"):
            process.resident()
        assert is_shell(process)


@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_exit_makes_a_snapshot_stale(target: Target, process: Process) -> None:
    """After the end a snapshot is stale and all of it has changed."""
    space = process.maps()
    target.popen.kill()
    process.wait()
    assert (space.stale, space.changed()) == (True, space.select())
    target.kill()
    assert (space.stale, space.changed()) == (True, space.select())


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that prints "here", and execs with each line it is sent."""
    script = tmp_path / "script"
    script.write_text(f"echo here; read line; exec {SHELL} {script}\n")
    with subprocess.Popen(
        [SHELL, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_a_hundred_execs(shell: subprocess.Popen[str]) -> None:
    """Each exec is noticed, and leaves no file open."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    with Process(shell.pid) as process:
        before = open_files()
        for _ in range(100):
            assert shell.stdout.readline() == "here\n"
            space = process.maps()
            shell.stdin.write("\n")
            shell.stdin.flush()
            until(lambda space=space: space.stale, "the exec is noticed")  # type: ignore[misc]
            del space
        process.maps()
        assert open_files() == before


@pytest.fixture
def executing(tmp_path: Path) -> Iterator[int]:
    """A process that executes its program again and again."""
    script = tmp_path / "script"
    script.write_text(f"exec {SHELL} {script}\n")
    with subprocess.Popen([SHELL, script]) as process:
        yield process.pid
        process.kill()


def test_a_process_that_execs_all_the_time(executing: int) -> None:
    """Whenever it is looked at, a process that lives has an address space."""
    for _ in range(300):
        with Process(executing) as process:
            assert len(process.maps()) > 0
