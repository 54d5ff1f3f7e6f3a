"""One address space, one process: exec, vfork and a pid that is in use again."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.handles import open_files, reads, send
from helpers.hold_targets import until
from helpers.targets import PAGE, Target, wait_for_state

from pmadvise import Advice, Process, Ranges, _sys, maps

root = pytest.mark.needs_root
SHELL = os.path.realpath("/bin/sh")
AT_REST = ["sh", "-c", "kill -STOP $$"]


def is_shell(process: Process) -> bool:
    """Tell whether the shell is in the latest maps."""
    return process.maps().select(path=SHELL).total > 0


@pytest.fixture(params=["PROCMAP_QUERY", "ENOTTY"])
def query(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel, and one before Linux 6.11, be asked for the address space."""
    if request.param == "ENOTTY":
        monkeypatch.setattr(_sys, "procmap_query", lambda fd: -errno.ENOTTY)


def exec_shell(target: Target) -> None:
    """Have the target exec, and return once it is at rest."""
    send(target, f"os.execv({SHELL!r}, {AT_REST})")
    wait_for_state(target.pid, "T")


# exec


@pytest.mark.usefixtures("query")
def test_exec_makes_a_snapshot_stale(target: Target, process: Process) -> None:
    """After an exec a snapshot is stale and changed, and reads the same."""
    space = process.maps()
    before = list(space)
    exec_shell(target)
    assert (space.stale, space.changed()) == (True, space.select())
    assert list(space) == before


@root
@pytest.mark.usefixtures("query")
@pytest.mark.parametrize("read", [Process.resident, Process.swapped])
def test_exec_and_pages(
    target: Target, process: Process, read: Callable[[Process], Ranges]
) -> None:
    """Pages are told of the address space spoken of, which is gone, until maps()."""
    process.maps()
    exec_shell(target)
    with pytest.raises(ProcessLookupError, match="exec'd"):
        read(process)
    process.maps()
    assert read(process) & process.maps().select() == read(process)
    assert process.alive is True


@pytest.mark.usefixtures("query")
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
@pytest.mark.usefixtures("query")
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
    """A handle speaks of the address space it found when it was opened."""
    target.run("None")
    with Process(target.pid) as process:
        exec_shell(target)
        with pytest.raises(ProcessLookupError, match="exec'd"):
            process.resident()
        assert is_shell(process)


@pytest.mark.usefixtures("query")
def test_exit_makes_a_snapshot_stale(target: Target, process: Process) -> None:
    """After the end a snapshot is stale and all of it has changed."""
    space = process.maps()
    target.process.kill()
    process.wait()
    assert (space.stale, space.changed()) == (True, space.select())
    target.kill()
    assert (space.stale, space.changed()) == (True, space.select())


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that says "here", and execs with each line it is sent."""
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


def test_a_process_that_execs_all_the_time(tmp_path: Path) -> None:
    """Whenever it is looked at, a process that lives has an address space."""
    script = tmp_path / "script"
    script.write_text(f"exec {SHELL} {script}\n")
    with subprocess.Popen([SHELL, script]) as shell:
        for _ in range(300):
            with Process(shell.pid) as process:
                assert len(process.maps()) > 0
        shell.kill()


# A child of vfork(2), which shares the address space of its parent until its exec


class Vforked:
    """A child that waits between vfork(2) and exec until it is told."""

    def __init__(self, target: Target, fifo: Path) -> None:
        os.mkfifo(fifo)
        self._fifo = fifo
        send(
            target,
            f"os.posix_spawn({SHELL!r}, {AT_REST}, {{}}, file_actions="
            f"[(os.POSIX_SPAWN_OPEN, 9, {str(fifo)!r}, os.O_RDONLY, 0)])",
        )
        children = Path(f"/proc/{target.pid}/task/{target.pid}/children")
        self.pid = int(until(children.read_text, "the child is there"))

    def exec(self) -> None:
        """Have it exec, and return once it is at rest."""
        os.close(os.open(self._fifo, os.O_WRONLY))
        wait_for_state(self.pid, "T")


@pytest.fixture
def vforked(target: Target, tmp_path: Path) -> Iterator[Vforked]:
    target.run("None")
    child = Vforked(target, tmp_path / "fifo")
    yield child
    os.kill(child.pid, signal.SIGKILL)


@pytest.mark.usefixtures("query")
def test_exec_of_a_vforked_child(vforked: Vforked) -> None:
    """The exec is noticed, though the address space lives on in the parent."""
    with Process(vforked.pid) as process:
        space = process.maps()
        assert (space.stale, space.changed()) == (False, Ranges())
        vforked.exec()
        assert (space.stale, space.changed()) == (True, space.select())
        with pytest.raises(ProcessLookupError, match="exec'd"):
            process.resident()
        assert is_shell(process)
        assert space.stale is True


@root
@pytest.mark.usefixtures("query")
def test_nothing_is_advised_after_a_vforked_child_exec(
    target: Target, vforked: Vforked
) -> None:
    """What the parent has at the addresses, and what the child has, stays as it is."""
    with Process(vforked.pid) as process:
        heap = process.maps().select(path="[heap]")
        vforked.exec()
        report = process.advise(heap, Advice.COLD)
        assert (report.ended, report.advised) == ("exec", 0)


@pytest.mark.usefixtures("query")
@pytest.mark.parametrize("before", ["auxv", "maps"])
def test_vforked_child_that_execs_while_it_is_opened(
    vforked: Vforked, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """An exec between the files that are opened is noticed too."""
    open_proc = maps.open_proc
    todo = [vforked.exec]

    def open_slowly(proc: int, name: str) -> int:
        if name == before and todo:
            todo.pop()()
        return open_proc(proc, name)

    monkeypatch.setattr(maps, "open_proc", open_slowly)
    with Process(vforked.pid) as process:
        assert todo == []
        assert is_shell(process)


def test_old_snapshot_of_a_vforked_child_when_closed(vforked: Vforked) -> None:
    """A snapshot from before the exec stays stale, also when the handle is closed."""
    with Process(vforked.pid) as process:
        space = process.maps()
        vforked.exec()
        process.maps()
    assert (space.stale, space.changed()) == (True, space.select())


# A pid that is in use again


def fork_as(pid: int) -> None:
    """Fork a stopped child that has this pid. Wraps clone3(2) with set_tid."""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = ctypes.c_int(pid)
    # struct clone_args: the exit signal, and the one element of set_tid
    arguments = struct.pack(
        "10Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1
    )
    number = -1
    while number < 0:
        number = libc.syscall(435, arguments, len(arguments))
        if number == 0:
            while True:
                os.kill(os.getpid(), signal.SIGSTOP)
        if number < 0 and ctypes.get_errno() != errno.EEXIST:
            raise OSError(ctypes.get_errno(), "clone3")
    assert os.waitpid(pid, os.WUNTRACED)[0] == pid


@pytest.fixture
def reused(target: Target, process: Process) -> Iterator[Process]:
    """The handle of a process that is gone and whose pid another one has."""
    process.maps()
    target.kill()
    try:
        fork_as(target.pid)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.E2BIG):
            raise
        pytest.skip("the kernel has no clone3 with set_tid: Linux 5.5")
    yield process
    os.kill(target.pid, signal.SIGKILL)
    os.waitpid(target.pid, 0)


@root
@reads
def test_reused_pid(reused: Process, read: Callable[[Process], object]) -> None:
    """The handle never becomes the newcomer's: ProcessLookupError, again and again."""
    with Process(reused.pid) as newcomer:
        assert (newcomer.alive, len(newcomer.maps()) > 0) == (True, True)
        for _ in range(2):
            with pytest.raises(ProcessLookupError, match="exited"):
                read(reused)
            assert (reused.alive, reused.wait()) == (False, True)


@root
def test_newcomer_is_not_touched(reused: Process) -> None:
    """Nothing that is asked of the old handle moves the newcomer's memory."""
    with Process(reused.pid) as newcomer:
        before = newcomer.resident(), newcomer.swapped()
        with pytest.raises(ProcessLookupError):
            reused.pageout(before[0], max_stall=None)
        assert (newcomer.resident(), newcomer.swapped()) == before


@root
def test_pidfd_of_a_reused_pid(reused: Process) -> None:
    """The pidfd of the old handle does not open one of the newcomer."""
    with pytest.raises(ProcessLookupError):
        Process.from_pidfd(reused)


@root
def test_pid_reused_while_it_is_opened(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pid that changes hands between pidfd and directory opens no handle."""
    target.run("None")
    real_open, todo = os.open, [fork_as]

    def open_late(path: str, *arguments: int, **named: int) -> int:
        if path == f"/proc/{target.pid}" and todo:
            target.kill()
            todo.pop()(target.pid)
        return real_open(path, *arguments, **named)

    monkeypatch.setattr(os, "open", open_late)
    before = open_files()
    with pytest.raises(ProcessLookupError, match="exited"):
        Process(target.pid)
    assert (open_files(), todo) == (before, [])
    os.kill(target.pid, signal.SIGKILL)
    os.waitpid(target.pid, 0)
