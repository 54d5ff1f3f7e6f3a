"""Sizes, times and names as people read them."""

from __future__ import annotations

import os

_MINUTE = 60


def printable(text: str, ascii_only: bool = False) -> str:
    r"""Return a text that no terminal interprets, on one line.

    The name of a process or of a file is chosen by its owner. Control characters,
    escape sequences, characters that change the direction of text and undecodable bytes
    become escapes as in Python (a backslash too, so that each stands for one name).

    >>> print(printable("a\x1b[2J\u202eb\udcff"))
    a\x1b[2J\u202eb\xff
    """
    return "".join(
        one
        if one.isprintable() and one != "\\" and (one.isascii() or not ascii_only)
        else _escape(one)
        for one in text
    )


def _escape(one: str) -> str:
    if "\udc80" <= one <= "\udcff":  # a byte, by surrogateescape
        return f"\\x{ord(one) - 0xDC00:02x}"
    return one.encode("unicode_escape").decode("ascii")


def shorten(text: str, width: int, ellipsis: str) -> str:
    """Return a text that is at most `width` characters long; its end is kept."""
    if len(text) <= width:
        return text
    return ellipsis + text[len(text) - max(width - len(ellipsis), 1) :]


def size(n_bytes: int) -> str:
    """Return bytes in few characters: "1.5M" is 1.5 MiB."""
    import humanize  # noqa: PLC0415 - for results alone

    return humanize.naturalsize(n_bytes, gnu=True)


def long_size(n_bytes: int) -> str:
    """Return bytes in words: "1.5 MiB"."""
    import humanize  # noqa: PLC0415 - for results alone

    return humanize.naturalsize(n_bytes, binary=True).replace("Byte", "byte")


def duration(seconds: float) -> str:
    """Return a time in few characters: "1.2s", "340ms", "52us"."""
    if seconds >= _MINUTE:
        return f"{int(seconds) // _MINUTE}m{int(seconds) % _MINUTE:02}s"
    for unit, factor in (("s", 1), ("ms", 1_000), ("us", 1_000_000)):
        value = seconds * factor
        if value >= 1:
            return f"{value:.3g}{unit}" if value < 1000 else f"{value:.0f}{unit}"
    return "0s"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 range", "2 ranges"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def error_text(error: OSError) -> str:
    """Return the message of an error, without the number of its errno."""
    if error.strerror:
        path = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return f"{error.strerror}{path}"
    return str(error) or type(error).__name__
