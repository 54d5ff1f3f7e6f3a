"""Arguments read from text: process IDs, sizes, times, budgets, ranges of addresses.

Each function raises click.BadParameter for a text that it can't read, which is a usage
error; it returns a default, which is no text, as it is.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import click

from pmadvise._native.base import PAGE_SIZE

_TIME = re.compile(r"([0-9]*\.?[0-9]+) ?(us|ms|s|m|h)?")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_RANGE = re.compile(r"(?:0x)?([0-9a-f]+)-(?:0x)?([0-9a-f]+)", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{1,10}")
_MAX_BYTES = 1 << 64
_MAX_PID = (1 << 31) - 1


class Share(NamedTuple):
    """A part of the memory of the targets."""

    percent: float


def _refused(text: str, why: str) -> click.BadParameter:
    return click.BadParameter(f"{text!r} is not {why}")


def pid(text: str) -> int:
    """Return a process ID."""
    if not _DIGITS.fullmatch(text) or not 0 < int(text) <= _MAX_PID:
        raise _refused(text, "a process ID")
    return int(text)


def size(text: str | int) -> int:
    """Return bytes: of 4096, 64K, 1.5GiB. Units are powers of 1024."""
    if isinstance(text, int):
        return text
    import bitmath  # noqa: PLC0415 - takes as long to import as click

    try:
        parsed = bitmath.parse_string(text.strip(), system=bitmath.NIST, strict=False)
        found = float(parsed.bytes)
    except ValueError:
        found = math.nan
    if not 0 <= found < _MAX_BYTES:
        raise _refused(text, "a size, such as 4096, 64K or 1.5GiB")
    return int(found)


def time(text: str) -> float:
    """Return seconds: of 10ms, 2s, 1.5m, or a number of seconds."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        raise _refused(text, "a time, such as 10ms or 2s")
    return float(found[1]) * _SECONDS[found[2]]


def positive_time(text: str) -> float:
    """Return seconds, more than 0."""
    seconds = time(text)
    if not seconds > 0:
        raise _refused(text, "more than 0 seconds")
    return seconds


def stall(text: str) -> float:
    """Return seconds, more than 0; infinity for "none"."""
    return math.inf if text == "none" else positive_time(text)


def budget(text: str) -> int | Share:
    """Return a size, or of N% a Share."""
    if not text.endswith("%"):
        return size(text)
    try:
        percent = float(text[:-1])
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        raise _refused(text, "between 0% and 100%")
    return Share(percent)


def address_range(text: str) -> tuple[int, int]:
    """Return address and length of START-END, as /proc/PID/maps has it."""
    found = _RANGE.fullmatch(text.strip())
    if not found:
        raise _refused(text, "START-END in hexadecimal, as in /proc/PID/maps")
    start, end = int(found[1], 16), int(found[2], 16)
    if not start < end <= _MAX_BYTES:
        raise _refused(text, "a range: START must be less than END, and END 64 bits")
    if start % PAGE_SIZE or end % PAGE_SIZE:
        raise _refused(text, f"of whole pages of {PAGE_SIZE} bytes")
    return start, end - start
