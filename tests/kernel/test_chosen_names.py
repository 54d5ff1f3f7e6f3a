"""Names that a target chooses never change what is read of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.names import LIES, SEPARATORS
from helpers.reports import skipped_by_errno
from helpers.targets import GIB, MIB, PAGE, Target

from pmadvise import Process, Ranges, Report

NAMES = sorted({*SEPARATORS, *LIES, b"a\nb"})
FILE_NAMES = [name for name in NAMES if b"/" not in name and b"\\012" not in name]
DEFAULTS: list[Callable[[Process], Report]] = [
    Process.cold,
    Process.pageout,
    Process.willneed,
    Process.collapse,
]

by_name = pytest.mark.parametrize("name", NAMES, ids=repr)
by_file_name = pytest.mark.parametrize("name", FILE_NAMES, ids=repr)


class Named:
    """A target that uses one name for all that it may name, and locks a page."""

    def __init__(self, target: Target, directory: Path, name: bytes) -> None:
        self.path = os.fsencode(directory) + b"/" + name.replace(b"/", b"|")
        with open(self.path, "wb") as file:
            file.write(bytes(4 * PAGE))
        target.run(f"prctl(PR_SET_NAME, {name!r})")
        self.file = target.mapped_file(self.path, 4 * PAGE)
        self.memfd = target.run(
            f"map({4 * PAGE}, flags=SHARED, fd=memfd({name!r}, {4 * PAGE}))"
        )
        self.data = target.filled(MIB)
        self.locked = Ranges([(target.filled(PAGE), PAGE)])
        # so much that smaps is parsed where PAGEMAP_SCAN is missing
        target.reserved(2 * GIB)
        for address in (self.file, self.memfd, self.locked[0][0]):
            target.run(f"lock({address}, PAGE)")


@pytest.mark.needs_root
@by_name
@pytest.mark.usefixtures("ioctls_of_a_release")
def test_every_default(
    target: Target, process: Process, tmp_path: Path, name: bytes
) -> None:
    """Every default selection is advised whole, but for the locked page."""
    named = Named(target, tmp_path, name)
    reports = [default(process) for default in DEFAULTS]
    assert [report.ended for report in reports] == ["complete"] * len(DEFAULTS)
    cold, pageout, *_ = reports
    for report in (cold, pageout):
        assert skipped_by_errno(report) == {errno.EINVAL: named.locked}
        assert report.advised == report.requested - PAGE >= MIB
    assert target.intact(named.data, MIB)


@by_name
def test_sums(target: Target, process: Process, tmp_path: Path, name: bytes) -> None:
    """Memory and status are the kernel's sums, whatever the names are."""
    before = process.memory()
    Named(target, tmp_path, name)
    memory, status = process.memory(), process.status()
    assert memory.locked == status.locked == 3 * PAGE
    assert MIB <= memory.anonymous - before.anonymous <= 2 * MIB
    assert status.anonymous == target.status("RssAnon")


@by_file_name
def test_paths(target: Target, process: Process, tmp_path: Path, name: bytes) -> None:
    """The paths of a file and of a memfd are those that the target has chosen."""
    named = Named(target, tmp_path, name)
    space = process.maps()
    file, memfd = os.fsdecode(named.path), os.fsdecode(b"/memfd:%s (deleted)" % name)
    assert Ranges(space.select(path=file)).merged() == Ranges([(named.file, 4 * PAGE)])
    found = Ranges(space.select(path=memfd)).merged()
    assert found == Ranges([(named.memfd, 4 * PAGE)])


@by_name
@pytest.mark.usefixtures("ioctls_of_a_release")
def test_pages(target: Target, process: Process, tmp_path: Path, name: bytes) -> None:
    """The pages in memory are found, whatever the names are."""
    named = Named(target, tmp_path, name)
    data = Ranges([(named.data, MIB)]) | named.locked
    assert process.resident() & data == data
