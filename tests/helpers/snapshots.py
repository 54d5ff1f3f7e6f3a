"""Files that a target maps, and the VMAs of a snapshot."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.targets import PAGE, Target
from pmadvise import AddressSpace, Vma


def vma_at(space: AddressSpace, address: int) -> Vma:
    """Return the VMA that an address lies in."""
    return next(vma for vma in space if vma.start <= address < vma.end)


def new_file(target: Target, path: Path | bytes, n_pages: int = 4) -> int:
    """Let the target map a new file of so many pages; return the address."""
    with open(path, "wb") as file:
        file.write(b"f" * n_pages * PAGE)
    return target.mapped_file(path, n_pages * PAGE)


def map_at(
    target: Target, address: int, size: int, path: Path, offset: int, flags: str
) -> None:
    """Let the target map a file over the memory at an address."""
    target.run(
        f"map_at({address}, {size}, flags={flags}, "
        f"fd=os.open({os.fspath(path)!r}, 2), offset={offset})"
    )
