"""Names that a target chooses never change what is read of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.names import LIES, SEPARATORS, for_each
from helpers.reports import skipped_by_errno
from helpers.targets import GIB, MIB, PAGE, Target

from pmadvise import Process, Ranges, Report

NAMES = sorted({*SEPARATORS, *LIES, b"a\nb"})
FILE_NAMES = [name for name in NAMES if b"/" not in name and b"\\012" not in name]
DATA = 32 * PAGE
DEFAULTS: list[Callable[[Process], Report]] = [
    Process.cold,
    Process.pageout,
    Process.willneed,
    Process.collapse,
]


class Named:
    """What a target has named by the latest name, beside all that it named before.

    Args:
        target: The process, which has this name itself from now on.
        directory: Where its file is made.
        name: For the file, and for a memfd; a page of each is locked, and one of data.
    """

    def __init__(self, target: Target, directory: Path, name: bytes) -> None:
        self.path = os.fsencode(directory) + b"/" + name.replace(b"/", b"|")
        with open(self.path, "wb") as file:
            file.write(bytes(4 * PAGE))
        target.run(f"prctl(PR_SET_NAME, {name!r})")
        self.file = target.mapped_file(self.path, 4 * PAGE)
        self.memfd = target.run(
            f"map({4 * PAGE}, flags=SHARED, fd=memfd({name!r}, {4 * PAGE}))"
        )
        self.data = target.filled(DATA)
        self.locked = Ranges([(target.filled(PAGE), PAGE)])
        for address in (self.file, self.memfd, self.locked[0][0]):
            target.run(f"lock({address}, PAGE)")


@pytest.mark.needs_root
@pytest.mark.usefixtures("ioctls_of_a_release")
def test_every_default(target: Target, process: Process, tmp_path: Path) -> None:
    """Every default selection is advised whole, but for the locked pages."""
    # so much that smaps is parsed where PAGEMAP_SCAN is missing
    target.reserved(2 * GIB)
    locked = Ranges()

    def advised(name: bytes) -> tuple[object, ...]:
        nonlocal locked
        named = Named(target, tmp_path, name)
        locked |= named.locked
        reports = [default(process) for default in DEFAULTS]
        skipped = [skipped_by_errno(report) for report in reports[:2]]
        less = [report.requested - report.advised for report in reports[:2]]
        return (
            [report.ended for report in reports],
            skipped == [{errno.EINVAL: locked}] * 2,
            less == [locked.total] * 2,
            min(report.advised for report in reports[:2]) >= DATA,
            target.intact(named.data, DATA),
        )

    wanted = (["complete"] * len(DEFAULTS), True, True, True, True)
    assert for_each(NAMES, advised) == dict.fromkeys(NAMES, wanted)


def test_sums(target: Target, process: Process, tmp_path: Path) -> None:
    """Memory and status are the kernel's sums, whatever the names are."""

    def sums(name: bytes) -> tuple[object, ...]:
        before = process.memory()
        Named(target, tmp_path, name)
        memory, status = process.memory(), process.status()
        return (
            memory.locked - before.locked,
            status.locked - before.locked,
            DATA <= memory.anonymous - before.anonymous <= DATA + MIB,
            status.anonymous == target.status("RssAnon"),
        )

    wanted = (3 * PAGE, 3 * PAGE, True, True)
    assert process.memory().locked == 0
    assert for_each(NAMES, sums) == dict.fromkeys(NAMES, wanted)


def test_paths(target: Target, process: Process, tmp_path: Path) -> None:
    """The paths of a file and of a memfd are those that the target has chosen."""

    def mapped(name: bytes) -> tuple[bool, bool]:
        named = Named(target, tmp_path, name)
        space = process.maps()
        file, memfd = (
            os.fsdecode(named.path),
            os.fsdecode(b"/memfd:%s (deleted)" % name),
        )
        return (
            space.select(path=file).merged() == Ranges([(named.file, 4 * PAGE)]),
            space.select(path=memfd).merged() == Ranges([(named.memfd, 4 * PAGE)]),
        )

    assert for_each(FILE_NAMES, mapped) == dict.fromkeys(FILE_NAMES, (True, True))


@pytest.mark.usefixtures("ioctls_of_a_release")
def test_pages(target: Target, process: Process, tmp_path: Path) -> None:
    """The pages in memory are found, whatever the names are."""
    target.reserved(2 * GIB)

    def missing(name: bytes) -> Ranges:
        named = Named(target, tmp_path, name)
        return (Ranges([(named.data, DATA)]) | named.locked) - process.resident()

    assert for_each(NAMES, missing) == dict.fromkeys(NAMES, Ranges())
