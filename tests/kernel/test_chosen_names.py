"""Names that a target chooses never change what is read of it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.names import LIES, SEPARATORS, failing
from helpers.reports import skipped_by_errno
from helpers.targets import GIB, MIB, PAGE, Target

from pmadvise import Process, Ranges, Report

NAMES = sorted({*SEPARATORS, *LIES, b"a\nb"})
FILE_NAMES = [name for name in NAMES if b"/" not in name and b"\\012" not in name]
RESERVED = 2 * GIB
"""So much that smaps is parsed where PAGEMAP_SCAN is missing."""
DEFAULTS: list[Callable[[Process], Report]] = [
    Process.cold,
    Process.pageout,
    Process.willneed,
    Process.collapse,
]


class Named(NamedTuple):
    """What a target has that it gave a name to, and what it has besides."""

    path: bytes
    file: int
    memfd: int
    data: int
    locked: Ranges
    """A page of memory; a page of the file and one of the memfd are locked as well."""


@contextlib.contextmanager
def named(target: Target, directory: Path, name: bytes) -> Iterator[Named]:
    """Let a target use a name for all that it may name, and unmap that at the end."""
    path = os.fsencode(directory) + b"/" + name.replace(b"/", b"|")
    with open(path, "wb") as file:
        file.write(bytes(4 * PAGE))
    target.run(f"prctl(PR_SET_NAME, {name!r})")
    memfd = f"memfd({name!r}, {4 * PAGE})"
    sizes = {
        target.mapped_file(path, 4 * PAGE): 4 * PAGE,
        target.run(f"map({4 * PAGE}, flags=SHARED, fd={memfd})"): 4 * PAGE,
        target.filled(MIB): MIB,
        target.filled(PAGE): PAGE,
    }
    at_file, at_memfd, data, locked = sizes
    for address in (at_file, at_memfd, locked):
        target.run(f"lock({address}, PAGE)")
    try:
        yield Named(path, at_file, at_memfd, data, Ranges([(locked, PAGE)]))
    finally:
        for address, size in sizes.items():
            target.run(f"unmap({address}, {size})")


@pytest.mark.needs_root
@pytest.mark.usefixtures("ioctls_of_a_release")
def test_every_default(target: Target, process: Process, tmp_path: Path) -> None:
    """Every default selection is advised whole, but for the locked page."""
    target.reserved(RESERVED)

    def advised(name: bytes) -> tuple[object, ...]:
        with named(target, tmp_path, name) as its:
            reports = [default(process) for default in DEFAULTS]
            some = reports[:2]
            return (
                [report.ended for report in reports],
                [
                    skipped_by_errno(report) == {errno.EINVAL: its.locked}
                    for report in some
                ],
                [report.advised == report.requested - PAGE >= MIB for report in some],
                target.intact(its.data, MIB),
            )

    wanted = (["complete"] * len(DEFAULTS), [True] * 2, [True] * 2, True)
    assert failing(NAMES, advised, wanted) == {}


def test_sums(target: Target, process: Process, tmp_path: Path) -> None:
    """Memory and status are the kernel's sums, whatever the names are."""

    def sums(name: bytes) -> tuple[object, ...]:
        before = process.memory()
        with named(target, tmp_path, name):
            memory, status = process.memory(), process.status()
            return (
                (memory.locked, status.locked),
                MIB <= memory.anonymous - before.anonymous <= 2 * MIB,
                status.anonymous == target.status("RssAnon"),
            )

    wanted = ((3 * PAGE, 3 * PAGE), True, True)
    assert failing(NAMES, sums, wanted) == {}


def test_paths(target: Target, process: Process, tmp_path: Path) -> None:
    """The paths of a file and of a memfd are those that the target has chosen."""

    def mapped(name: bytes) -> tuple[bool, bool]:
        with named(target, tmp_path, name) as its:
            space = process.maps()
            path, memfd = (
                os.fsdecode(its.path),
                os.fsdecode(b"/memfd:%s (deleted)" % name),
            )
            return (
                space.select(path=path).merged() == Ranges([(its.file, 4 * PAGE)]),
                space.select(path=memfd).merged() == Ranges([(its.memfd, 4 * PAGE)]),
            )

    assert failing(FILE_NAMES, mapped, (True, True)) == {}


@pytest.mark.usefixtures("ioctls_of_a_release")
def test_pages(target: Target, process: Process, tmp_path: Path) -> None:
    """The pages in memory are found, whatever the names are."""
    target.reserved(RESERVED)

    def missing(name: bytes) -> Ranges:
        with named(target, tmp_path, name) as its:
            return (Ranges([(its.data, MIB)]) | its.locked) - process.resident()

    assert failing(NAMES, missing, Ranges()) == {}
