"""The parser of maps and the questions to a snapshot; needs no kernel feature."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from helpers.maps_model import (
    NAMES,
    PAGE,
    PERMS,
    Line,
    address_spaces,
    any_lines,
    changed,
    cut,
    hostile_texts,
    parse,
    paths,
    selected,
    space_of,
    text_of,
)

from pmadvise import Ranges, Vma, _sys

TOP = 2**64
ANONYMOUS = Line(0x1000, 0x3000)
FILE = Line(0x5000, 0x9000, "r-xp", 0x2000, 8, 1, 77, b"/usr/bin/cat")
HEAP = Line(0xA000, 0xB000, path=b"[heap]")
SPACE = [ANONYMOUS, FILE, HEAP]


def parsed(octets: bytes) -> list[Vma] | None:
    """Return the VMAs, None if the text is refused as it should be."""
    try:
        return list(space_of(octets))
    except OSError as error:
        if error.errno != errno.EBADMSG:
            raise
        return None


# The parser


@given(any_lines())
def test_what_the_kernel_writes_comes_back(lines: list[Line]) -> None:
    """Each field of each line is what the kernel wrote, in the same order."""
    assert parsed(text_of(lines)) == [line.vma() for line in lines]


@given(hostile_texts() | st.binary(max_size=200))
@example(b"")
@example(b"\n")
@example(text_of(SPACE)[:-1])
@example(text_of(SPACE) + b"\n")
@example(text_of(SPACE).replace(b" ", b"  "))
@example(text_of(SPACE).replace(b" ", b"\t"))
@example(text_of(SPACE).replace(b"\n", b"\r\n"))
def test_hostile_text(octets: bytes) -> None:
    """Any bytes are read as the model reads them, or refused as EBADMSG."""
    lines = parse(octets)
    assert parsed(octets) == (None if lines is None else [line.vma() for line in lines])


@pytest.mark.parametrize("cut_off", range(1, len(FILE.text()) + 1))
def test_truncated_text(cut_off: int) -> None:
    """Text that ends within a line is refused, wherever it ends."""
    text = text_of(SPACE[:2])[:-cut_off]
    assert (parsed(text) is None) == (cut_off != len(FILE.text()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"5000-", b"10000000000000000-"),
        (b"9000 ", b"fffffffffffffffff "),
        (b"9000 ", b"5000 "),
        (b"9000 ", b"4000 "),
        (b"00005000", b"0x005000"),
        (b"00005000", b"-0005000"),
        (b"00009000", b"0000900A"),
        (b"r-xp", b"r-x?"),
        (b"r-xp", b"rxwp"),
        (b"r-xp", b"r-x"),
        (b"r-xp", b"r-xpp"),
        (b"00002000", b"20000000000000000"),
        (b"08:01", b"08-01"),
        (b"08:01", b"1000:01"),
        (b"08:01", b"08:100000"),
        (b" 77 ", b" 18446744073709551616 "),
        (b" 77 ", b" 7f "),
        (b" 77 ", b"  "),
        (b"/usr", b"/us\0"),
        (b"/usr", b"/us\n"),
    ],
)
def test_no_line_of_the_kernel(old: bytes, new: bytes) -> None:
    """A number that does not fit, or a field of another form, is refused."""
    assert text_of(SPACE).count(old) == 1
    assert parsed(text_of(SPACE).replace(old, new)) is None


def test_the_largest_values() -> None:
    """The largest values that the kernel can write are read as they are."""
    line = Line(0, TOP - 1, "rwxs", TOP - 1, 0xFFF, 0xFFFFF, TOP - 1, b"/x")
    assert parsed(line.text()) == [line.vma()]


def test_refusal_says_what() -> None:
    """The error of a text that is none names maps."""
    with pytest.raises(OSError, match="maps: ") as caught:
        space_of(b"not maps\n")
    assert caught.value.errno == errno.EBADMSG


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/a b  c", "/a b  c"),
        (b"/a ", "/a "),
        (rb"/a\012b", "/a\nb"),
        (rb"/\012\012", "/\n\n"),
        (rb"/a\b\\c\n", r"/a\b\\c\n"),
        (rb"/a\01", r"/a\01"),
        (rb"/a\134", r"/a\134"),
        (b"/a (deleted)", "/a (deleted)"),
        (b"/\xff\xfe", "/\udcff\udcfe"),
        ("/é".encode(), "/é"),
        (b"/a\tb\rc", "/a\tb\rc"),
        (b"[anon:a b]", "[anon:a b]"),
        (b"[heap]", "[heap]"),
        (b"[stack]", "[stack]"),
        (b"[vdso]", "[vdso]"),
        (b"[vvar]", "[vvar]"),
        (b"[vsyscall]", "[vsyscall]"),
        (b"", ""),
    ],
)
def test_path(raw: bytes, path: str) -> None:
    """A path is as in the file system: escapes undone, undecodable bytes kept."""
    text = b"1000-2000 rw-p 00000000 00:00 0".ljust(73) + raw + b"\n"
    assert [vma.path for vma in space_of(text)] == [path]
    assert list(space_of(text).select(path=path)) == [(0x1000, 0x1000)]


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 1 << 21])
def test_text_of_any_size(size: int) -> None:
    """A file is read whole, around the sizes where its buffer grows too."""
    octets = os.urandom(size)
    with tempfile.TemporaryFile() as file:
        file.write(octets)
        file.flush()
        text, read = _sys.read_text(file.fileno())
    assert _sys.text_bytes(text, 0, read) == octets


# Vma


@given(any_lines())
def test_properties_of_a_vma(lines: list[Line]) -> None:
    """The properties of a Vma say what its fields do, and what select() says."""
    space = space_of(text_of(lines))
    for vma, line in zip(space, lines, strict=True):
        assert vma.length == line.end - line.start
        has = vma.readable, vma.writable, vma.executable, vma.private
        assert has == tuple(a == b for a, b in zip(line.perms, "rwxp", strict=True))
    assert list(space.select(anonymous=True)) == [
        (vma.start, vma.length) for vma in space if vma.anonymous
    ]


@pytest.mark.parametrize("path", NAMES)
def test_anonymous_by_name(path: bytes) -> None:
    """Anonymous are what has no name, a given name, the heap and stacks alone."""
    (vma,) = space_of(Line(0x1000, 0x2000, path=path).text())
    assert vma.anonymous == (
        path in (b"", b"[heap]", b"[stack]", b"[stack:17]", b"[anon:jemalloc meta]")
    )


@pytest.mark.parametrize("path", ["", "[heap]", "[anon:x]"])
def test_a_file_is_not_anonymous(path: str) -> None:
    """What has a device and inode is no anonymous memory, whatever its name."""
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


# select()

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
    assert list(space_of(text_of(lines)).select(**asked)) == selected(lines, **asked)


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


# changed()


def changed_of(old: bytes, now: bytes) -> list[tuple[int, int]]:
    """Return what changed() says when maps says `now`."""
    space = space_of(old)
    space._mm.octets = now  # type: ignore[attr-defined]
    return list(space.changed())


@given(address_spaces(), address_spaces())
def test_changed(old: list[Line], now: list[Line]) -> None:
    """The parts that differ are named as the model names them, page by page."""
    assert changed_of(text_of(old), text_of(now)) == changed(old, now)


@given(address_spaces(), st.data())
def test_changed_names_what_was_unmapped(old: list[Line], data: st.DataObject) -> None:
    """Of an address space that lost some VMAs, these are named and no other."""
    gone = data.draw(st.sets(st.sampled_from(old))) if old else set()
    now = [line for line in old if line not in gone]
    assert changed_of(text_of(old), text_of(now)) == [
        (line.start, line.end - line.start) for line in old if line in gone
    ]


@given(address_spaces(), st.integers(0, 60))
def test_borders_are_no_change(old: list[Line], at: int) -> None:
    """A VMA that was split, with nothing else of it changed, is the same."""
    border = at * PAGE
    now = []
    for line in old:
        if line.start < border < line.end:
            offset = line.offset + (border - line.start if line.inode else 0)
            now.append(line._replace(end=border))
            now.append(line._replace(start=border, offset=offset))
        else:
            now.append(line)
    assert changed_of(text_of(old), text_of(now)) == []


@given(any_lines(), any_lines())
def test_changed_of_what_is_in_no_order(old: list[Line], now: list[Line]) -> None:
    """Hostile text in no order at all gives an answer within the old VMAs."""
    found = Ranges(changed_of(text_of(old), text_of(now)))
    assert found - Ranges((line.start, line.end - line.start) for line in old) == (
        Ranges()
    )


# Cutting ranges at the borders of VMAs


def pieces_of(
    lines: list[Line], pairs: list[tuple[int, int]]
) -> list[tuple[int, int, bool]]:
    space, ranges = space_of(text_of(lines)), Ranges(pairs)
    array, n, mapped = _sys.vmas_cut(
        space._vmas, len(space), ranges._array, len(ranges)
    )
    return [
        (address, length, bool(is_mapped))
        for (address, length), is_mapped in zip(
            Ranges._adopt(array, n), mapped, strict=True
        )
    ]


small = st.tuples(st.integers(0, 60 * PAGE), st.integers(0, 40 * PAGE))
aligned = small.map(lambda pair: (pair[0] & -PAGE, pair[1] & -PAGE))


@given(address_spaces(), st.lists(small | aligned, max_size=8))
def test_cut(lines: list[Line], pairs: list[tuple[int, int]]) -> None:
    """Each piece lies in one VMA or in none, and all together are what was asked."""
    assert pieces_of(lines, pairs) == cut(lines, pairs)


@given(any_lines(), st.lists(st.integers(0, TOP - 1), max_size=8))
def test_cut_at_hostile_borders(lines: list[Line], starts: list[int]) -> None:
    """VMAs that overlap, in no order, lose no byte of what is cut."""
    pairs = [(start, min(TOP - start, TOP - 1)) for start in starts]
    pieces = pieces_of(lines, pairs)
    assert sum(length for _, length, _ in pieces) == sum(n for _, n in pairs)


def test_cut_at_the_top() -> None:
    """What ends where the address space does is cut like any other."""
    last = Line(TOP - 2 * PAGE, TOP - PAGE)
    assert pieces_of([last], [(TOP - 3 * PAGE, 3 * PAGE)]) == [
        (TOP - 3 * PAGE, PAGE, False),
        (TOP - 2 * PAGE, PAGE, True),
        (TOP - PAGE, PAGE, False),
    ]


# The sequence


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
