"""The text of /proc/PID/maps, and the questions to it, in plain Python."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from pmadvise import AddressSpace, Vma
from pmadvise._handle.mm import Mm, MmEnd
from pmadvise._native.descriptor import Descriptor
from pmadvise._native.maps import VmaArray

PAGE = 4096
TOP = 2**64


def vmas_of(octets: bytes) -> VmaArray:
    """Return the VMAs of a text of maps, read from a file."""
    fd = os.memfd_create("maps", os.MFD_CLOEXEC)
    try:
        os.write(fd, octets)
        return VmaArray.read(fd)
    finally:
        os.close(fd)


class TextMm(Mm):
    """Stands for an address space whose maps has this text, without any process."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def file(self) -> Descriptor:
        """Return an open file, of no process."""
        return Descriptor.open(os.devnull)

    def ended(self) -> MmEnd | None:
        """Return that it is the current one."""
        return None

    def read_vmas(self, verify: bool = True) -> VmaArray:
        """Parse the text, from a file."""
        return vmas_of(self.octets)


def space_of(octets: bytes) -> AddressSpace:
    """Return the snapshot of a process whose maps has this text."""
    return AddressSpace(TextMm(octets))


class Line(NamedTuple):
    """A line of maps; the path as it is in the file system."""

    start: int
    end: int
    perms: str = "rw-p"
    offset: int = 0
    major: int = 0
    minor: int = 0
    inode: int = 0
    path: bytes = b""

    def text(self) -> bytes:
        """Return it as show_map_vma() of fs/proc/task_mmu.c writes it."""
        head = (
            f"{self.start:08x}-{self.end:08x} {self.perms} {self.offset:08x} "
            f"{self.major:02x}:{self.minor:02x} {self.inode} "
        ).encode()
        if self.path:
            head = head.ljust(73)
        return head + self.path.replace(b"\n", rb"\012") + b"\n"

    def vma(self) -> Vma:
        """Return the Vma that it is."""
        device = os.makedev(self.major, self.minor)
        where = self.start, self.end, self.perms, self.offset, device, self.inode
        return Vma(*where, os.fsdecode(self.path))

    def identity(self, address: int) -> tuple[object, ...]:
        """Return what stays equal as long as the VMA at an address is the same."""
        file = self.major, self.minor, self.inode
        offset = self.offset + address - self.start if self.has_file else 0
        return self.perms, file, self.path, offset % 2**64

    @property
    def has_file(self) -> bool:
        """Whether a file is mapped."""
        return any((self.major, self.minor, self.inode))


ANONYMOUS = Line(0x1000, 0x3000)
FILE = Line(0x5000, 0x9000, "r-xp", 0x2000, 8, 1, 77, b"/usr/bin/cat")
HEAP = Line(0xA000, 0xB000, path=b"[heap]")
SPACE = [ANONYMOUS, FILE, HEAP]


def text_of(lines: Iterable[Line]) -> bytes:
    """Return the text of maps."""
    return b"".join(line.text() for line in lines)


_LINE = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) ([0-9a-f]+) "
    rb"([0-9a-f]+):([0-9a-f]+) ([0-9]+)  *([^\n]*)\n"
)


def parse(octets: bytes) -> list[Line] | None:
    """Return the lines in order, or None where a line is not as a kernel writes it."""
    lines = []
    for raw in re.findall(rb"[^\n]*\n|[^\n]+", octets):
        match = _LINE.fullmatch(raw)
        if match is None:
            return None
        start, end, offset, major, minor = (int(match[i], 16) for i in (1, 2, 4, 5, 6))
        inode, path = int(match[7]), match[8].replace(rb"\012", b"\n")
        if (
            not start < end < 2**64
            or max(offset, inode) >= 2**64
            or major >= 1 << 12
            or minor >= 1 << 20
            or b"\0" in path
        ):
            return None
        perms = match[3].decode()
        lines.append(Line(start, end, perms, offset, major, minor, inode, path))
    return in_order(lines)


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Sort by address, and cut away from each what an earlier one covers."""
    found: list[Line] = []
    for line in sorted(lines, key=lambda line: line.start):
        start = max(line.start, found[-1].end if found else 0)
        if start < line.end:
            moved = start - line.start if line.has_file else 0
            offset = (line.offset + moved) % 2**64
            found.append(line._replace(start=start, offset=offset))
    return found


def anonymous(line: Line) -> bool:
    """Return whether a VMA has neither a file nor a name of the kernel's."""
    if line.has_file:
        return False
    return not line.path or line.path.startswith((b"[anon:", b"[heap]", b"[stack"))


def matches(pattern: str, path: str) -> bool:
    """Return whether a path is the pattern or matches it, a first "[" as it stands."""
    return (
        path == pattern
        or fnmatch.fnmatchcase(path, pattern)
        or (
            pattern[:1] == path[:1] == "["
            and fnmatch.fnmatchcase(path[1:], pattern[1:])
        )
    )


def selected(lines: Sequence[Line], **asked: Any) -> list[tuple[int, int]]:
    """Return what AddressSpace.select() should."""
    found = []
    for line in lines:
        is_so = {
            "anonymous": anonymous(line),
            "private": line.perms[3] == "p",
            "readable": line.perms[0] == "r",
            "writable": line.perms[1] == "w",
            "executable": line.perms[2] == "x",
        }
        path, length = asked.get("path"), line.end - line.start
        if (
            all(asked.get(name) in (None, value) for name, value in is_so.items())
            and length >= asked.get("min_length", 0)
            and (path is None or matches(path, os.fsdecode(line.path)))
        ):
            found.append((line.start, length))
    return found


def changed(old: Sequence[Line], now: Sequence[Line]) -> list[tuple[int, int]]:
    """Return what AddressSpace.changed() should, page by page."""
    there = {
        address: line.identity(address)
        for line in now
        for address in range(line.start, line.end, PAGE)
    }
    found: list[tuple[int, int]] = []
    for line in old:
        last = None
        for address in range(line.start, line.end, PAGE):
            if there.get(address) == line.identity(address):
                last = None
            elif last is None:
                last = address
                found.append((address, PAGE))
            else:
                found[-1] = last, found[-1][1] + PAGE
    return found


def cut(
    lines: Sequence[Line], ranges: Iterable[tuple[int, int]]
) -> list[tuple[int, int, bool]]:
    """Return ranges cut at the boundaries of VMAs, and whether each piece is mapped."""
    boundaries = sorted({edge for line in lines for edge in (line.start, line.end)})
    pieces = []
    for start, length in ranges:
        end = start + length
        edges = [start, *(edge for edge in boundaries if start < edge < end), end]
        for a, b in itertools.pairwise(edges):
            mapped = any(line.start <= a < line.end for line in lines)
            if a < b:
                pieces.append((a, b - a, mapped))
    return pieces


NAMES = [
    b"",
    b"[heap]",
    b"[stack]",
    b"[stack:17]",
    b"[anon:jemalloc meta]",
    b"[anon_shmem:name]",
    b"[vdso]",
    b"[vvar]",
    b"[vsyscall]",
    b"[uprobes]",
    b"/dev/zero (deleted)",
    b"/SYSV00000000 (deleted)",
    b"/memfd:a b (deleted)",
    b"anon_inode:[perf_event]",
]

PERMS = [r + w + x + s for r in "r-" for w in "w-" for x in "x-" for s in "ps"]

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


@st.composite
def address_spaces(draw: st.DrawFn, pages: int = 40) -> list[Line]:
    """Sorted VMAs that do not overlap, some adjacent, of a few kinds."""
    lines: list[Line] = []
    at = draw(st.integers(0, 3)) * PAGE
    while at < pages * PAGE and draw(st.booleans() | st.just(True)):
        end = at + draw(st.integers(1, 6)) * PAGE
        perms = draw(st.sampled_from(["rw-p", "r--p", "rw-s", "r-xp"]))
        if draw(st.booleans()):
            path = draw(st.sampled_from([b"", b"[heap]", b"[anon:x]"]))
            lines.append(Line(at, end, perms, path=path))
        else:
            # mostly the offset that makes neighbours one mapping of one file
            offset = at + draw(st.sampled_from([0, 0, 0, PAGE]))
            inode, path = draw(st.sampled_from([(1, b"/a"), (1, b"/b"), (2, b"/a")]))
            lines.append(Line(at, end, perms, offset, 8, 1, inode, path))
        at = end + draw(st.sampled_from([0, 0, PAGE, 4 * PAGE]))
    return lines


@st.composite
def any_lines(draw: st.DrawFn) -> list[Line]:
    """Lines of any values that maps may have, in no order."""
    return [
        Line(
            start := draw(st.integers(0, 2**64 - 2)),
            draw(st.integers(start + 1, 2**64 - 1)),
            draw(st.sampled_from(PERMS)),
            draw(st.integers(0, 2**64 - 1)),
            draw(st.integers(0, 0xFFF)),
            draw(st.integers(0, 0xFFFFF)),
            draw(st.integers(0, 2**64 - 1)),
            draw(paths),
        )
        for _ in range(draw(st.integers(0, 6)))
    ]


@st.composite
def hostile_texts(draw: st.DrawFn) -> bytes:
    """Well-formed text with some bytes of it cut out, put in or overwritten."""
    text = bytearray(text_of(draw(any_lines())))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        until = at + draw(st.sampled_from([0, 0, 1, 1, 2, 9, 1000]))
        text[at:until] = draw(
            st.sampled_from([b"", b" ", b"\n", b"\0", b"-", b"0", b"f", b"F", b"\\012"])
            | st.sampled_from([b"0" * 40, b"f" * 17, b"9" * 25, b"\\01", b"\\", b":"])
            | st.binary(max_size=4)
        )
    return bytes(text)
