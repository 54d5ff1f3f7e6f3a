"""AddressSpace.select(); needs no kernel feature."""

from __future__ import annotations

import os
from typing import Any

import pytest
from helpers.maps_model import (
    NAMES,
    PAGE,
    SPACE,
    TOP,
    Line,
    any_lines,
    in_order,
    paths,
    selected,
    space_of,
    text_of,
)
from hypothesis import given
from hypothesis import strategies as st

globs = st.lists(
    st.sampled_from(
        [
            "*",
            "?",
            "a",
            "b",
            "/",
            " ",
            "\n",
            "\\",
            "[ab]",
            "[!a]",
            "(deleted)",
            "[",
            "]",
        ]
    ),
    max_size=5,
).map("".join)


@given(
    any_lines(),
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(
                ["anonymous", "private", "readable", "writable", "executable"],
                st.sampled_from([None, True, False]),
            ),
            "min_length": st.integers(0, TOP + 1),
            "path": globs
            | paths.map(os.fsdecode)
            | st.sampled_from(["/*", "*", "[anon:*]", "[v*]", "[s*", "* (deleted)"]),
        },
    ),
)
def test_select(lines: list[Line], asked: dict[str, Any]) -> None:
    """Every filter, alone and with others, selects what the model does."""
    found = list(space_of(text_of(lines)).select(**asked))
    assert found == selected(in_order(lines), **asked)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", [b""]),
        ("[heap]", [b"[heap]"]),
        ("[vdso]", [b"[vdso]"]),
        ("[anon:*]", [b"[anon:jemalloc meta]"]),
        ("[[]anon:*", [b"[anon:jemalloc meta]"]),
        ("[v*]", [b"[vdso]", b"[vvar]", b"[vsyscall]"]),
        ("[sv]*", []),
        ("/memfd:*", [b"/memfd:a b (deleted)"]),
        (
            "* (deleted)",
            [
                b"/dev/zero (deleted)",
                b"/SYSV00000000 (deleted)",
                b"/memfd:a b (deleted)",
            ],
        ),
        ("/dev/zero", []),
        ("*", NAMES),
        ("\\*", []),
    ],
)
def test_glob(pattern: str, expected: list[bytes]) -> None:
    """A pattern is the very path or a glob, and names in brackets are themselves."""
    lines = [
        Line(i * PAGE, (i + 1) * PAGE, path=name) for i, name in enumerate(NAMES, 1)
    ]
    found = space_of(text_of(lines)).select(path=pattern)
    assert [NAMES[address // PAGE - 1] for address, _ in found] == expected


@pytest.mark.parametrize("path", [b"/x[1]*\\?", b"/\xffa", "/é".encode(), b"/a\nb"])
def test_the_very_path_is_no_glob_but_itself(path: bytes) -> None:
    """Whatever characters a path has, it selects itself."""
    lines = [Line(PAGE, 2 * PAGE, path=path), Line(2 * PAGE, 3 * PAGE, path=b"/q")]
    vma = space_of(text_of(lines))[0]
    assert list(space_of(text_of(lines)).select(path=vma.path)) == [(PAGE, PAGE)]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"path": b"/a"}, TypeError, "path b'/a' is not a str"),
        ({"path": "/a\0"}, ValueError, "has a NUL"),
        ({"min_length": -1}, ValueError, "min_length -1 is negative"),
        ({"min_length": 1.5}, TypeError, "float"),
    ],
)
def test_select_refuses(
    asked: dict[str, Any], error: type[Exception], words: str
) -> None:
    """An argument that makes no sense is refused with its value."""
    with pytest.raises(error, match=words):
        space_of(text_of(SPACE)).select(**asked)


def test_longer_than_all_addresses() -> None:
    """No VMA is longer than the address space."""
    assert space_of(text_of(SPACE)).select(min_length=2**64).total == 0
