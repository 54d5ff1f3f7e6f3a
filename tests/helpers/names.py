"""Names that a process, its owner or an attacker may choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import strategies as st

SEPARATORS = [
    *(
        text.encode()
        for text in ("\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x1a", "\x7f")
    ),
    *(text.encode() for text in ("\x85", "\u2028", "\u2029", "\xa0", "\u3000")),
    b"\x85",
    b"\r\r",
    b" ",
    b"\t",
    b"\\",
]
"""Characters at which str or bytes are cut or stripped, in UTF-8 and in Latin 1."""

LIES = [
    b"VmRSS:\t99 kB",
    b"VmLck: 9 kB",
    b"\rVmRSS:\t9 kB",
    b"VmFlags: rd lo",
    b"\rVmFlags: lo",
    b"\r1000-9000 rw-p",
    b"\x0c0-f rw-p",
    b"\rRss:   9 kB",
    b"\x1cSwap:  9 kB",
    b") S 1 2 3 4 5",
    b")",
    b"a\rb",
    b"1000-2000 rw-p 00000000 00:00 0",
    b" - cgroup2 cgroup2 rw",
    b"0::/",
    b"\xff\xfe",
    b"\\012",
]
"""Names that look like other lines of /proc."""

names = st.lists(
    st.sampled_from([*SEPARATORS, *LIES, b"a", b"\n", b":"])
    | st.binary(max_size=3).map(lambda octets: octets.replace(b"\0", b"0")),
    max_size=6,
).map(b"".join)
"""Names of any bytes but NUL, mostly separators."""


def joined(each: Iterable[bytes], size: int) -> list[bytes]:
    """Return names one behind the other, as many as fit into `size` bytes each time."""
    found = [b""]
    for name in each:
        if len(found[-1] + name) > size:
            found.append(b"")
        found[-1] += name
    return found


def octal(name: bytes, escaped: bytes) -> bytes:
    """Return a name as the kernel writes it: seq_escape(), mangle_path()."""
    return b"".join(
        b"\\%03o" % byte if byte in escaped else bytes([byte]) for byte in name
    )


def failing(
    each: Iterable[bytes], check: Callable[[bytes], object], wanted: object
) -> dict[bytes, object]:
    """Return the names to which a check gives another answer, and what it answers.

    Args:
        each: All names.
        check: Asked about one name after the other; an error that it raises is its
            answer.
        wanted: The answer to each.
    """
    answers: dict[bytes, object] = {}
    for name in each:
        try:
            answer = check(name)
        except (AssertionError, OSError, ValueError) as error:
            answer = repr(error)
        if answer != wanted:
            answers[name] = answer
    return answers


def all_at_once(each: list[bytes], check: Callable[[list[bytes]], None]) -> None:
    """Make a check with all names together; if it fails, find those that make it fail.

    Raises:
        AssertionError: The check raised it, with all names and perhaps with some alone.
    """
    try:
        check(each)
    except AssertionError as error:
        alone = failing(each, lambda name: check([name]), None)
        raise AssertionError(f"fails alone: {alone}") from error
