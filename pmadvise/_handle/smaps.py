"""Mappings by /proc/PID/smaps: with memory, with swap, or with a flag."""

from __future__ import annotations

import os
from collections.abc import Callable

from pmadvise._handle.mm import Mm
from pmadvise._origin import own
from pmadvise._proc.files import lines
from pmadvise.ranges import Ranges

RESIDENT_FIELDS = frozenset({b"Rss", b"Private_Hugetlb", b"Shared_Hugetlb"})
SWAP_FIELDS = frozenset({b"Swap"})
"""Fields of smaps that are 0 if no page of a mapping is in memory, or in swap."""

_READ_SIZE = 1 << 16
_HEADER = rb"([0-9a-f]+)-([0-9a-f]+) "
_REFERENCED = (
    rb"(?m)^(?:(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) |Rss: +(?P<rss>[1-9][0-9]*) kB$"
    rb"|Referenced: +0 kB$)"
)
_SIZE = rb"([A-Za-z_]+): +([0-9]+) kB"

Check = Callable[[], object]
"""Called repeatedly during a long walk; it may raise to end the walk."""


def no_check() -> None:
    """Never end a walk."""


def populated(mm: Mm, fields: frozenset[bytes], check: Check = no_check) -> Ranges:
    """Return the mappings with pages in memory, or in swap; smaps is slow.

    Args:
        mm: The address space.
        fields: RESIDENT_FIELDS or SWAP_FIELDS.
        check: Called between reads.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process no longer has that mm.
    """
    return Ranges(parse_populated(_read(mm, check), fields)).merged()


def mappings_with_flags(
    mm: Mm, flags: frozenset[bytes], check: Check = no_check
) -> Ranges:
    """Return the mappings with at least one of these VmFlags; errors as populated().

    Args:
        mm: The address space.
        flags: Of two letters each, proc_pid_smaps(5).
        check: Called between reads.
    """

    def has_flag(line: bytes) -> bool:
        return line.startswith(b"VmFlags:") and not flags.isdisjoint(line.split()[1:])

    return Ranges(mappings_with(_read(mm, check), has_flag)).merged()


def referenced(mm: Mm, check: Check = no_check) -> tuple[Ranges, Ranges]:
    """Return the mappings whose accessed bits are counted, and those without one set.

    Set since clear_refs was written. Those of hugetlb pages are not counted. Errors as
    populated().
    """
    counted, unset = parse_referenced(_read(mm, check))
    return Ranges(counted).merged(), Ranges(unset).merged()


def parse_referenced(
    smaps: bytes,
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the mappings of smaps with Rss, and of these those with no Referenced.

    As (address, length).
    """
    import re  # noqa: PLC0415 - slow to import

    counted: list[tuple[int, int]] = []
    unset: list[tuple[int, int]] = []
    start = end = 0
    for match in re.finditer(_REFERENCED, smaps):
        if match["start"]:
            start, end = int(match["start"], 16), int(match["end"], 16)
        elif match["rss"]:
            counted.append((start, end - start))
        elif counted[-1:] == [(start, end - start)]:
            unset.append((start, end - start))
    return counted, unset


def _read(mm: Mm, check: Check) -> bytes:
    """Return the text of smaps; the kernel takes the mmap lock of the target."""
    parts = []
    file = mm.open_file("smaps")
    try:
        while part := os.read(file.fd, _READ_SIZE):
            parts.append(part)
            check()
    except own(ProcessLookupError):
        raise mm.identity.gone() from None
    finally:
        file.close()
    return b"".join(parts)


def parse_populated(smaps: bytes, fields: frozenset[bytes]) -> list[tuple[int, int]]:
    """Return (address, length) of the mappings of smaps with a field that is not 0."""
    import re  # noqa: PLC0415 - slow to import

    size_of = re.compile(_SIZE).fullmatch

    def has_memory(line: bytes) -> bool:
        size = size_of(line)
        return size is not None and size[1] in fields and int(size[2]) > 0

    return mappings_with(smaps, has_memory)


def mappings_with(
    smaps: bytes, is_wanted: Callable[[bytes], bool]
) -> list[tuple[int, int]]:
    """Return (address, length) of the mappings of smaps, once for each wanted line."""
    import re  # noqa: PLC0415 - slow to import

    header_of = re.compile(_HEADER).match
    mappings: list[tuple[int, int]] = []
    start = end = 0
    for line in lines(smaps):
        if header := header_of(line):
            start, end = int(header[1], 16), int(header[2], 16)
        elif is_wanted(line):
            mappings.append((start, end - start))
    return mappings
