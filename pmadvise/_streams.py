"""Streams: stdout and stderr of a program, which lose nothing in silence.

They escape every control character but the newline, wait for a reader that is slow,
and remember what could not be written, which then decides on the exit status.
"""

from __future__ import annotations

import errno
import io
import os
import re
import select
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO, cast

from pmadvise._interrupt import INTERRUPTED

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_ENOUGH = 1 << 16
"""Bytes that are written together."""


def printable(text: str, ascii_only: bool = False) -> str:
    r"""Return a text that no terminal interprets, on one line.

    The name of a process or of a file is chosen by its owner. Control characters,
    escape sequences, characters that change the direction of text and undecodable bytes
    become escapes as in Python (a backslash too, so that each stands for one name).

    >>> print(printable("a\x1b[2J\u202eb\udcff"))
    a\x1b[2J\u202eb\xff
    """
    if text.isprintable() and "\\" not in text and (text.isascii() or not ascii_only):
        return text
    return "".join(
        character
        if character.isprintable()
        and character != "\\"
        and (character.isascii() or not ascii_only)
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte, by surrogateescape
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def harmless(text: str) -> str:
    """Return lines with their control characters escaped, all else as it is."""
    if text.isprintable():
        return text
    pieces = re.split(r"([\n\\])", text)  # both are kept
    return "".join(p if p in ("\n", "\\") else printable(p) for p in pieces)


class Stream(io.TextIOBase):
    """A standard stream, by its file descriptor.

    Args:
        number: The file descriptor; None if it was closed, which no write survives.
        encoding: What it cannot encode is escaped.
        is_buffered: Whether to write only when there is much, or on flush().

    Attributes:
        lost: The error of the first write that failed; nothing is written after it.
        is_stuck: Whether a signal handler raised while the latest write waited.
    """

    def __init__(self, number: int | None, encoding: str, is_buffered: bool) -> None:
        self._number, self._encoding = number, encoding
        self._is_buffered = is_buffered
        self._file: io.BufferedWriter | None = None
        if number is not None:
            # In C, so that a signal handler that raises neither loses nor repeats text.
            file = io.FileIO(number, "wb", closefd=False)
            self._file = io.BufferedWriter(file, _ENOUGH)
        self.lost: OSError | None = None
        self.is_stuck = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The name of the encoding."""
        return self._encoding

    def fileno(self) -> int:
        """Return the file descriptor."""
        if self._number is None:
            raise io.UnsupportedOperation("the stream was closed")
        return self._number

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._number is not None and os.isatty(self._number)

    def writable(self) -> bool:
        """Return that it is for writing."""
        return True

    def write(self, text: str) -> int:
        """Write a text, its control characters escaped."""
        return self.write_unescaped(harmless(text))

    def write_unescaped(self, text: str) -> int:
        """Write a text whose escape sequences are the program's own."""
        self.write_octets(text.encode(self._encoding, "backslashreplace"))
        return len(text)

    def write_octets(self, octets: bytes) -> None:
        """Write bytes as they are."""
        if self._file is None:
            self.lost = OSError(errno.EBADF, os.strerror(errno.EBADF))
            return
        left, self.is_stuck = memoryview(octets), True
        while left and self.lost is None:
            try:
                left = left[self._file.write(left[:_ENOUGH]) :]
            except BlockingIOError as error:
                left = left[error.characters_written :]
                self.flush()
            except OSError as error:
                self.lost = error
        self.is_stuck = False
        if not self._is_buffered:
            self.flush()

    @property
    def buffer(self) -> io.RawIOBase:
        """The stream for bytes, which click writes completions to."""
        return _Octets(self)

    def flush(self) -> None:
        """Write what is pending; wait where the reader is slow."""
        if self._file is None or self._number is None:
            return
        self.is_stuck = True
        while self.lost is None:
            try:
                self._file.flush()
                break
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._number, select.POLLOUT)
                poll.poll()
            except OSError as error:
                self.lost = error
        self.is_stuck = False

    def give_up(self) -> None:
        """Write what is pending to nobody, at this program's end: nothing waits."""
        if self._number is not None:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._number)
            os.close(null)


class _Octets(io.RawIOBase):
    """The view of a Stream for bytes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        """Return that it is for writing."""
        return True

    def write(self, octets: Buffer) -> int:
        """Write bytes."""
        copy = bytes(octets)
        self._stream.write_octets(copy)
        return len(copy)

    def flush(self) -> None:
        """Write what is pending."""
        self._stream.flush()


class _Unescaped:
    """The view of a Stream for a library that writes escape sequences."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.write = stream.write_unescaped

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def for_escapes(stream: TextIO) -> TextIO:
    """Return the stream that takes the program's own escape sequences."""
    if isinstance(stream, Stream):
        return cast("TextIO", _Unescaped(stream))
    return stream


def is_lost(stream: TextIO) -> bool:
    """Return whether nothing more can be written: the work for it may end."""
    return isinstance(stream, Stream) and stream.lost is not None


def encoding_of(stream: TextIO) -> str:
    """Return the encoding in lower case, UTF-8 where there is none."""
    return (getattr(stream, "encoding", None) or "utf-8").lower()


def run(name: str, main: Callable[[], int]) -> int:
    """Run a program with such streams; return its exit status.

    What could not be written makes the status 0 a 1, and is a line on stderr; a reader
    that has seen enough gets none.

    Args:
        name: Of the program, for that line.
        main: Returns its exit status, or raises SystemExit.
    """
    out, err = _standard_streams()
    try:
        try:
            status = main()
        except SystemExit as end:
            code = end.code
            status = code if isinstance(code, int) else int(code is not None)
        except KeyboardInterrupt:
            status = INTERRUPTED
        if status == INTERRUPTED and out.is_stuck:
            out.give_up()
        out.flush()
        if out.lost is not None:
            status = status or 1
            if out.lost.errno != errno.EPIPE:
                err.write(f"{name}: stdout: {out.lost.strerror}\n")
    except KeyboardInterrupt:
        status = INTERRUPTED
        out.give_up()
    for stream in (out, err):
        if stream.lost is not None:  # Python 3.13 tells of what stays in a buffer
            stream.give_up()
    if status == INTERRUPTED:  # once more would be a traceback
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


def _standard_streams() -> tuple[Stream, Stream]:
    """Put Streams in the place of sys.stdout and sys.stderr."""
    files = sys.stdout, sys.stderr
    if None in (sys.stdin, *files):
        # No file of the work is to get the number of a stream that is closed.
        number = 0
        while number <= 2:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, number <= 2)
        os.close(number)
    # Python takes the C locale for UTF-8; who asks for it wants ASCII.
    is_c = os.environ.get("LC_ALL") in ("C", "POSIX")
    streams = [
        Stream(
            None if file is None else number,  # it was closed when Python began
            "ascii" if is_c else encoding_of(file),
            is_buffered=number == 1,
        )
        for number, file in zip((1, 2), files, strict=True)
    ]
    sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in streams)
    return streams[0], streams[1]
