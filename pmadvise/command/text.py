"""Sizes, times and names as people read them."""

from __future__ import annotations

import functools
import os
import pwd

_MINUTE = 60
_SHORT = 5


def shorten(text: str, width: int, ellipsis: str) -> str:
    """Return a text that is at most `width` columns long; its end is kept."""
    from rich.cells import cell_len  # noqa: PLC0415 - slow, --help needs none

    if cell_len(text) <= width:
        return text
    text = text[-width:]
    while text and cell_len(text) > width - len(ellipsis):
        text = text[1:]
    return ellipsis + text


@functools.lru_cache(maxsize=1 << 16)
def size(n_bytes: int) -> str:
    """Return bytes in at most five characters: "1.5M" is 1.5 MiB."""
    import humanize  # noqa: PLC0415 - for results alone

    text = humanize.naturalsize(n_bytes, gnu=True)
    if len(text) > _SHORT:
        text = humanize.naturalsize(n_bytes, gnu=True, format="%.0f")
    return text


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


@functools.lru_cache(maxsize=1 << 12)
def user_name(uid: int) -> str:
    """Return the name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 range", "2 ranges"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def error_text(error: OSError, subject: str = "") -> str:
    """Return the message of an error, each fact once.

    The package's messages are "CALL: STRERROR: REASON". The text of the errno is left
    out where a reason follows it, and a call of the process where the line has it.

    Args:
        error: What was raised.
        subject: The words before the message, such as "4242 name".
    """
    if not error.strerror:
        return str(error) or type(error).__name__
    parts = error.strerror.split(": ")
    general = os.strerror(error.errno or 0)
    if general in parts[:-1]:
        parts.remove(general)
    pid = subject.partition(" ")[0]
    if len(parts) > 1 and parts[0] in (f"pidfd_open({pid})", f"process {pid}"):
        del parts[0]
    path = f": {os.fsdecode(error.filename)}" if error.filename else ""
    return ": ".join(parts) + path


def error_json(error: OSError | None, subject: str = "") -> dict[str, object] | None:
    """Return the field `error` of --json; arguments as error_text() has them."""
    if error is None:
        return None
    return {"errno": error.errno, "message": error_text(error, subject)}
