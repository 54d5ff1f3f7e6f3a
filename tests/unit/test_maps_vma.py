"""A Vma and its properties; needs no kernel feature."""

from __future__ import annotations

import pytest
from helpers.maps_model import (
    FILE,
    NAMES,
    PAGE,
    SPACE,
    Line,
    any_lines,
    in_order,
    space_of,
    text_of,
)
from hypothesis import given

from pmadvise import Vma


@given(any_lines())
def test_properties_of_a_vma(lines: list[Line]) -> None:
    """The properties of a Vma agree with its fields, and with select()."""
    space = space_of(text_of(lines))
    for vma, line in zip(space, in_order(lines), strict=True):
        assert vma.length == line.end - line.start
        has = vma.readable, vma.writable, vma.executable, vma.private
        assert has == tuple(a == b for a, b in zip(line.perms, "rwxp", strict=True))
    assert list(space.select(anonymous=True)) == [
        (vma.start, vma.length) for vma in space if vma.anonymous
    ]


@pytest.mark.parametrize("path", NAMES)
def test_anonymous_by_name(path: bytes) -> None:
    """Memory without a name, with a given one, the heap and stacks are anonymous."""
    (vma,) = space_of(Line(0x1000, 0x2000, path=path).text())
    assert vma.anonymous == (
        path in (b"", b"[heap]", b"[stack]", b"[stack:17]", b"[anon:jemalloc meta]")
    )


@pytest.mark.parametrize("path", ["", "[heap]", "[anon:x]"])
def test_a_file_is_not_anonymous(path: str) -> None:
    """A mapping with a device or inode is not anonymous, whatever its name."""
    assert Vma(0, PAGE, "rw-p", 0, 1, 0, path).anonymous is False
    assert Vma(0, PAGE, "rw-p", 0, 0, 1, path).anonymous is False


def test_a_vma_is_frozen_and_has_value() -> None:
    """A Vma can't be changed, and is equal and hashed by value."""
    vma = FILE.vma()
    with pytest.raises(AttributeError):
        vma.start = 0  # type: ignore[misc]
    assert {vma: 1}[space_of(text_of(SPACE))[1]] == 1


def test_repr_of_a_vma() -> None:
    """The repr reads like the line of maps."""
    assert repr(FILE.vma()) == "Vma(0x5000-0x9000 r-xp 0x2000 08:01 77 '/usr/bin/cat')"
