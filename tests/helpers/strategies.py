"""Hypothesis strategies: ranges, and the VMAs and text of /proc/PID/maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from helpers.maps_model import NAMES, PAGE, PERMS, Line, text_of
from pmadvise._native.base import ADDRESS_MAX

TOP = ADDRESS_MAX + 1


small_pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12)

_edge = st.integers(0, TOP - 1) | st.integers(TOP - 9, TOP)


def _between(one: int, other: int, is_empty: bool) -> tuple[int, int]:
    start = min(one, other, TOP - 1)
    return start, 0 if is_empty else min(max(one, other) - start, TOP - 1)


wide_pair = st.builds(_between, _edge, _edge, st.sampled_from([False, False, True]))
"""A pair from anywhere in the address space, the top preferred."""
wide_pairs = st.lists(wide_pair, max_size=8)


def addresses(ranges: Iterable[tuple[int, int]]) -> set[int]:
    """Return every address that ranges cover."""
    return {a for start, length in ranges for a in range(start, start + length)}


# Not "0": a backslash before "012" in a name can't be told from a newline.
_name = st.lists(
    st.sampled_from([b"a", b"b", b"/", b" ", b"\n", b"\\", b"\xff", b"[", b"]", b"*"]),
    max_size=6,
)
paths = st.sampled_from(NAMES) | st.builds(
    lambda parts, end: b"/" + b"".join(parts) + end,
    _name,
    st.sampled_from([b"", b" (deleted)"]),
)


# What differs between VMAs, drawn at once, as a draw of each is slow: length in pages,
# permissions, path and inode, pages in the file beyond the address, gap in pages.
_steps = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.sampled_from(["rw-p", "r--p", "rw-s", "r-xp"]),
        st.sampled_from(
            [
                *((0, b""), (0, b"[heap]"), (0, b"[anon:x]")),
                *((1, b"/a"), (1, b"/b"), (2, b"/a")),
            ]
        ),
        # mostly the offset that makes neighbours one mapping of one file
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([0, 0, 1, 4]),
    ),
    max_size=12,
)


def _placed(first: int, steps: list[Any], pages: int) -> list[Line]:
    lines: list[Line] = []
    at = first * PAGE
    for length, perms, (inode, path), beyond, gap in steps:
        end = at + length * PAGE
        if at >= pages * PAGE:
            break
        if inode:
            offset = at + beyond * PAGE
            lines.append(Line(at, end, perms, offset, 8, 1, inode, path))
        else:
            lines.append(Line(at, end, perms, path=path))
        at = end + gap * PAGE
    return lines


def address_spaces(pages: int = 40) -> st.SearchStrategy[list[Line]]:
    """Sorted VMAs that do not overlap, some adjacent, of a few kinds."""
    return st.builds(_placed, st.integers(0, 3), _steps, st.just(pages))


_numbers = st.integers(0, 2**64 - 1)
_lines = st.lists(
    st.builds(
        lambda edges, perms, rest, path: Line(*sorted(edges), perms, *rest, path),
        st.tuples(_numbers, _numbers).filter(lambda edges: edges[0] != edges[1]),
        st.sampled_from(PERMS),
        st.tuples(_numbers, st.integers(0, 0xFFF), st.integers(0, 0xFFFFF), _numbers),
        paths,
    ),
    max_size=6,
)


def any_lines() -> st.SearchStrategy[list[Line]]:
    """Lines of any values that maps may have, in no order."""
    return _lines


_damages = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from([0, 0, 1, 1, 2, 9, 1000]),
        st.sampled_from([b"", b" ", b"\n", b"\0", b"-", b"0", b"f", b"F", b"\\012"])
        | st.sampled_from([b"0" * 40, b"f" * 17, b"9" * 25, b"\\01", b"\\", b":"])
        | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=3,
)


def _damaged(lines: list[Line], damages: list[tuple[float, int, bytes]]) -> bytes:
    text = bytearray(text_of(lines))
    for where, length, octets in damages:
        at = int(where * len(text))
        text[at : at + length] = octets
    return bytes(text)


def hostile_texts() -> st.SearchStrategy[bytes]:
    """Well-formed text with some bytes of it cut out, put in or overwritten."""
    return st.builds(_damaged, any_lines(), _damages)
