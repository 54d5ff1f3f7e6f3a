"""The words for cgroups that can't be reclaimed from."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_cgroup import FakeCgroup

import pmadvise
from pmadvise import PAGE_SIZE
from pmadvise._reasons.reclaim import no_reclaim


def only(*names: str) -> Callable[[Path], None]:
    """Return a function that leaves these files alone in a directory."""

    def remove(root: Path) -> None:
        for path in root.iterdir():
            if path.name not in names:
                path.unlink()

    return remove


@pytest.mark.parametrize(
    ("files", "number", "words"),
    [
        (("cgroup.procs",), errno.ENOENT, "version 1"),
        (("cgroup.procs", "cgroup.controllers"), errno.ENOENT, "memory controller"),
        (
            ("cgroup.procs", "cgroup.controllers", "memory.stat"),
            errno.ENOENT,
            "Linux 5.19",
        ),
        ((), errno.ENOENT, "removed"),
        ((), errno.EACCES, "Delegate=yes"),
        ((), errno.EPERM, "its owner"),
        ((), errno.EROFS, "read-only"),
        ((), errno.EIO, "does not work"),
    ],
)
def test_reasons(fake: FakeCgroup, files: Any, number: int, words: str) -> None:
    """Each file that is missing, and each errno, has its reason."""
    only(*files)(fake.root)
    directory = os.open(fake.root, os.O_PATH)
    try:
        answer = no_reclaim(directory, number)
    finally:
        os.close(directory)
    assert not answer
    assert words in str(answer)


def test_a_file_that_is_missing(fake: FakeCgroup) -> None:
    """It is an error of the call, before anything is asked."""
    (fake.root / "memory.reclaim").unlink()
    with pytest.raises(FileNotFoundError, match=r"Linux 5\.19"):
        pmadvise.reclaim(str(fake.root), PAGE_SIZE)
