"""AddressSpace as a sequence; needs no kernel feature."""

from __future__ import annotations

import sys

import pytest
from helpers.maps_model import (
    ANONYMOUS,
    FILE,
    PAGE,
    PERMS,
    SPACE,
    TOP,
    space_of,
    text_of,
)

from pmadvise import Ranges


def test_sequence() -> None:
    """An AddressSpace is a sequence of Vma, by index, slice and search."""
    space, vmas = space_of(text_of(SPACE)), [line.vma() for line in SPACE]
    assert [space[i] for i in range(-3, 3)] == vmas + vmas
    assert (len(space), list(space), list(reversed(space))) == (3, vmas, vmas[::-1])
    assert (space[1:], space[::-2], space[5:]) == (vmas[1:], vmas[::-2], [])
    assert (vmas[1] in space, space.index(vmas[2]), space.count(vmas[0])) == (
        True,
        2,
        1,
    )
    assert ANONYMOUS._replace(perms="r--p").vma() not in space


@pytest.mark.parametrize("index", [3, -4, TOP])
def test_index_error(index: int) -> None:
    """An index outside is an IndexError that names it."""
    with pytest.raises(IndexError, match=f"index {index} of 3 VMAs"):
        space_of(text_of(SPACE))[index]


def test_index_of_another_type() -> None:
    """An index that is no int is a TypeError."""
    with pytest.raises(TypeError):
        space_of(text_of(SPACE))["0"]  # type: ignore[call-overload]


def test_empty() -> None:
    """An address space without a VMA is an empty sequence."""
    space = space_of(b"")
    assert (len(space), list(space), bool(space)) == (0, [], False)
    assert space.select() == space.changed() == Ranges()


def test_repr() -> None:
    """The repr has the number of VMAs and of bytes, and is short."""
    assert repr(space_of(text_of(SPACE))) == "<AddressSpace: 3 VMAs, 28672 bytes>"


def test_nothing_is_made_that_is_not_looked_at() -> None:
    """60,000 VMAs are read, selected and compared without a Python object each."""
    octets = text_of(
        FILE._replace(start=i * PAGE, end=(i + 1) * PAGE, perms=PERMS[i % 16])
        for i in range(1, 60_001)
    )
    before = sys.getallocatedblocks()
    space = space_of(octets)
    found = len(space), len(space.select(private=True, path="*cat")), space.changed()
    made = sys.getallocatedblocks() - before
    assert (found, made < 1000) == ((60_000, 30_000, Ranges()), True)
