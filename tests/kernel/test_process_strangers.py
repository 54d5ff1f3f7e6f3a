"""Processes of other users, hidden ones, and other pid namespaces."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.children import in_child
from helpers.namespaces import mount_proc, unshare_pids
from helpers.privileges import become_nobody
from helpers.public_calls import reads
from helpers.targets import PAGE, Target

from pmadvise import Process, pidfd_open

pytestmark = pytest.mark.needs_root


@reads
def test_stranger(target: Target, read: Callable[[Process], object]) -> None:
    """Anybody may open and wait; PermissionError with the reason comes at the read."""

    def look() -> tuple[bool, bool]:
        become_nobody()
        with Process(target.pid) as process:
            with pytest.raises(PermissionError, match="ptrace read access"):
                read(process)
            return process.alive, process.wait(0)

    assert in_child(look)[:4] == (None, None, "", (True, False))


def test_stranger_that_has_ended(target: Target, process: Process) -> None:
    """A stranger that has ended is ProcessLookupError, as it has no secret left."""

    def look() -> None:
        become_nobody()
        with Process(target.pid) as stranger:
            target.run_detached("os._exit(0)")
            stranger.wait()
            assert stranger.alive is False
            stranger.maps()

    assert in_child(look).error == "ProcessLookupError"


@reads
@pytest.mark.parametrize("hidepid", [1, 2])
@pytest.mark.needs_mounts
def test_hidden(
    target: Target, hidepid: int, read: Callable[[Process], object]
) -> None:
    """A process that /proc hides is opened and waited for; reading says hidepid."""

    def look() -> tuple[bool, bool, bool, bool]:
        mount_proc(f"hidepid={hidepid}")
        become_nobody()
        with Process(target.pid) as process:
            seen = process.alive, process.wait(0)
            with pytest.raises(PermissionError, match=r"hidepid|ptrace read access"):
                read(process)
            target.run_detached("os._exit(0)")
            process.wait()
            with pytest.raises(ProcessLookupError):
                read(process)
            return (*seen, process.alive, process.wait(0))

    outcome = in_child(look)
    assert (outcome.text, outcome.value) == ("", (True, False, False, True))


@pytest.mark.parametrize("hidepid", [1, 2])
@pytest.mark.needs_mounts
def test_hidden_since(target: Target, hidepid: int) -> None:
    """A process is alive even if /proc has come to hide it from its reader."""

    def look() -> bool:
        mount_proc(f"hidepid={hidepid}")
        with Process(target.pid) as process:
            become_nobody()
            return process.alive

    assert in_child(look)[:4] == (None, None, "", True)


@pytest.mark.needs_pid_namespace
def test_proc_of_another_pid_namespace(tmp_path: Path) -> None:
    """Where /proc has other pids than the caller, it is still the right process."""
    path = tmp_path / "mine alone"
    path.write_bytes(bytes(PAGE))

    def inside() -> list[object]:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            libc = ctypes.CDLL(None)
            libc.mmap(None, ctypes.c_size_t(PAGE), 1, 2, os.open(path, 0), 0)
            os.write(writer, b".")
            signal.pause()
        os.read(reader, 1)
        seen: list[object] = [pid]
        pidfd = pidfd_open(pid)
        for opened in (Process(pid), Process.from_pidfd(pidfd)):
            with opened as process:
                seen.append(process.maps().select(path=str(path)).total)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return seen

    def look() -> object:
        unshare_pids()
        return in_child(inside)[:4]

    assert in_child(look).value == (None, None, "", [2, PAGE, PAGE])
