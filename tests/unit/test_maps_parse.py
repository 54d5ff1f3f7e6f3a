"""The parser of /proc/PID/maps; needs no kernel feature."""

from __future__ import annotations

import errno

import pytest
from helpers.maps_model import (
    FILE,
    PAGE,
    SPACE,
    TOP,
    Line,
    any_lines,
    hostile_texts,
    in_order,
    parse,
    space_of,
    text_of,
)
from hypothesis import example, given
from hypothesis import strategies as st

from pmadvise import Vma


def parsed(octets: bytes) -> list[Vma] | None:
    """Return the VMAs, None if the text is refused with EBADMSG."""
    try:
        return list(space_of(octets))
    except OSError as error:
        if error.errno != errno.EBADMSG:
            raise
        return None


@given(any_lines())
def test_what_the_kernel_writes_comes_back(lines: list[Line]) -> None:
    """Each field of each line is what the kernel wrote, by address."""
    assert parsed(text_of(lines)) == [line.vma() for line in in_order(lines)]


@given(hostile_texts() | st.binary(max_size=200))
@example(b"")
@example(b"\n")
@example(text_of(SPACE)[:-1])
@example(text_of(SPACE) + b"\n")
@example(text_of(SPACE).replace(b" ", b"  "))
@example(text_of(SPACE).replace(b" ", b"\t"))
@example(text_of(SPACE).replace(b"\n", b"\r\n"))
def test_hostile_text(octets: bytes) -> None:
    """Any bytes are parsed as the model parses them, or refused with EBADMSG."""
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
    """The error of any other text names maps."""
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


@pytest.mark.parametrize("n", [0, 1, 511, 512, 513, 1 << 12, (1 << 12) + 1, 40_000])
@pytest.mark.parametrize("width", [0, 1, 200])
def test_a_file_of_any_size(n: int, width: int) -> None:
    """A file is read whole, also around the sizes where arrays grow and blocks end."""
    lines = [
        Line(
            PAGE * (i + 1), PAGE * (i + 2), "rw-p", path=b"/" + b"x" * (width % (i + 1))
        )
        for i in range(n)
    ]
    space = space_of(text_of(lines))
    assert len(space) == n
    assert [space[i] for i in {0, n // 2, n - 1} if 0 <= i < n] == [
        lines[i].vma() for i in {0, n // 2, n - 1} if 0 <= i < n
    ]
