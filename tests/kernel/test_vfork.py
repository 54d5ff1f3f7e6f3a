"""A child of vfork(2), which shares the address space of its parent until its exec."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.targets import AT_REST, SHELL, Target, is_shell
from helpers.waiting import until, wait_for_state

from pmadvise import Advice, Process, Ranges
from pmadvise._handle.identity import Identity
from pmadvise._native.descriptor import Descriptor

root = pytest.mark.needs_root


class Vforked:
    """A child that waits between vfork(2) and exec."""

    def __init__(self, target: Target, fifo: Path) -> None:
        os.mkfifo(fifo)
        self._fifo = fifo
        target.run_detached(
            f"os.posix_spawn({SHELL!r}, {AT_REST}, {{}}, file_actions="
            f"[(os.POSIX_SPAWN_OPEN, 9, {str(fifo)!r}, os.O_RDONLY, 0)])",
        )
        children = Path(f"/proc/{target.pid}/task/{target.pid}/children")
        self.pid = int(until(children.read_text, "the child is there"))

    def exec(self) -> None:
        """Let it exec, and return once it is stopped."""
        os.close(os.open(self._fifo, os.O_WRONLY))
        wait_for_state(self.pid, "T")


@pytest.fixture
def vforked(target: Target, tmp_path: Path) -> Iterator[Vforked]:
    target.run("None")
    child = Vforked(target, tmp_path / "fifo")
    yield child
    os.kill(child.pid, signal.SIGKILL)


@pytest.mark.usefixtures("with_and_without_procmap_query")
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
@pytest.mark.usefixtures("with_and_without_procmap_query")
def test_nothing_is_advised_after_a_vforked_child_exec(
    target: Target, vforked: Vforked
) -> None:
    """What the parent has at the addresses, and what the child has, stays as it is."""
    with Process(vforked.pid) as process:
        heap = process.maps().select(path="[heap]")
        vforked.exec()
        report = process.advise(heap, Advice.COLD)
        assert (report.ended, report.advised) == ("exec", 0)


@pytest.mark.usefixtures("with_and_without_procmap_query")
@pytest.mark.parametrize("when", ["before maps is opened", "after maps was opened"])
def test_vforked_child_that_execs_while_it_is_read(
    vforked: Vforked, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """An exec between the files that are opened is noticed too."""
    open_file, todo = Identity.open_file, [vforked.exec]

    def open_slowly(self: Identity, name: str) -> Descriptor:
        if name != "maps" or not todo:
            return open_file(self, name)
        if when.startswith("before"):
            todo.pop()()
            return open_file(self, name)
        opened = open_file(self, name)
        todo.pop()()
        return opened

    with Process(vforked.pid) as process:
        monkeypatch.setattr(Identity, "open_file", open_slowly)
        assert is_shell(process)
        assert todo == []


def test_old_snapshot_of_a_vforked_child(vforked: Vforked) -> None:
    """A snapshot from before the exec stays stale when maps() has found the new one."""
    with Process(vforked.pid) as process:
        space = process.maps()
        vforked.exec()
        later = process.maps()
        assert (space.stale, space.changed()) == (True, space.select())
        assert (later.stale, later.changed()) == (False, Ranges())
