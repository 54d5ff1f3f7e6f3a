"""The types of arguments: sizes, times, budgets, ranges of addresses."""

from __future__ import annotations

import math
import re
from typing import NamedTuple, NoReturn

import click

_TIME = re.compile(r"([0-9]*\.?[0-9]+) ?(us|ms|s|m|h)?")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_RANGE = re.compile(r"(?:0x)?([0-9a-f]+)-(?:0x)?([0-9a-f]+)", re.IGNORECASE)
_MAX_BYTES = 1 << 64
_MAX_PID = (1 << 31) - 1
_MAX_DIGITS = 10


class Share(NamedTuple):
    """A part of the memory of the targets."""

    percent: float


class _Type(click.ParamType):
    """A type of an argument whose text is at fault when it can't be converted."""

    def refuse(self, value: object, why: str) -> NoReturn:
        """Raise the usage error."""
        raise click.BadParameter(f"{str(value)!r} is not {why}")


class Pid(_Type):
    """A process ID."""

    name = "pid"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the number."""
        if isinstance(value, int):
            return value
        text = str(value)
        is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        if not is_number or not 0 < int(text) <= _MAX_PID:
            self.refuse(value, "a process ID")
        return int(text)


class Size(_Type):
    """Bytes: 4096, 64K, 1.5GiB. Units are powers of 1024."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        import bitmath  # noqa: PLC0415 - takes as long to import as click

        text = str(value).strip()
        try:
            parsed = bitmath.parse_string(text, system=bitmath.NIST, strict=False)
            found = float(parsed.bytes)
        except ValueError:
            found = math.nan
        if text[:1] not in "0123456789." or not 0 <= found < _MAX_BYTES:
            self.refuse(value, "a size, such as 4096, 64K or 1.5GiB")
        return int(found)


class Time(_Type):
    """Seconds: 10ms, 2s, 1.5m, or a number of seconds."""

    name = "time"

    def __init__(self, none: bool = False, positive: bool = False) -> None:
        self._none, self._positive = none, positive

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the seconds; infinity for "none"."""
        if isinstance(value, float):
            return value
        if self._none and value == "none":
            return math.inf
        found = _TIME.fullmatch(str(value).strip())
        if not found:
            more = ", or none" if self._none else ""
            self.refuse(value, f"a time, such as 10ms or 2s{more}")
        seconds = float(found[1]) * _SECONDS[found[2]]
        if self._positive and not seconds > 0:
            self.refuse(value, "more than 0 seconds")
        return seconds


class Budget(Size):
    """A size, or N% of the memory of the targets."""

    name = "size|n%"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the bytes, or a Share."""
        if isinstance(value, Share):
            return value
        text = str(value).strip()
        if not text.endswith("%"):
            return super().convert(value, param, ctx)
        try:
            percent = float(text[:-1])
        except ValueError:
            percent = math.nan
        if not 0 <= percent <= 100:
            self.refuse(value, "between 0% and 100%")
        return Share(percent)


class AddressRange(_Type):
    """START-END in hexadecimal, as /proc/PID/maps has it."""

    name = "start-end"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return address and length."""
        if isinstance(value, tuple):
            return value
        import mmap  # noqa: PLC0415 - for this option alone

        found = _RANGE.fullmatch(str(value).strip())
        if not found:
            self.refuse(value, "START-END in hexadecimal, as in /proc/PID/maps")
        start, end = int(found[1], 16), int(found[2], 16)
        if not start < end <= _MAX_BYTES:
            self.refuse(value, "a range: START must be less than END, and END 64 bits")
        if start % mmap.PAGESIZE or end % mmap.PAGESIZE:
            self.refuse(value, f"of whole pages of {mmap.PAGESIZE} bytes")
        return start, end - start
