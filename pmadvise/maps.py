"""Mappings of a process: /proc/PID/maps as a snapshot."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pmadvise._handle.mm import Mm
from pmadvise._native.base import ADDRESS_MAX
from pmadvise._native.maps import (
    VMA_ANONYMOUS,
    VMA_EXECUTABLE,
    VMA_READABLE,
    VMA_SHARED,
    VMA_WRITABLE,
    VmaArray,
)
from pmadvise.ranges import Ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsIndex, overload

_LETTERS = (("r", VMA_READABLE), ("w", VMA_WRITABLE), ("x", VMA_EXECUTABLE))


@dataclass(frozen=True, slots=True)
class Vma:
    """A virtual memory area: a line of /proc/PID/maps.

    Source: proc_pid_maps(5).
    """

    start: int
    """First address."""
    end: int
    """First address behind it."""
    perms: str
    """As maps has it: "rw-p"."""
    offset: int
    """Bytes into the file."""
    device: int
    """Of the file, as os.stat() has it in st_dev; 0 without one."""
    inode: int
    """Of the file; 0 without one."""
    path: str
    """Of the file, undecodable bytes by surrogateescape, with " (deleted)" where it was
    unlinked; or the kernel's name, such as "[heap]" or "[anon:name]"; or ""."""

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def readable(self) -> bool:
        """Whether it may be read."""
        return self.perms[0] == "r"

    @property
    def writable(self) -> bool:
        """Whether it may be written."""
        return self.perms[1] == "w"

    @property
    def executable(self) -> bool:
        """Whether it may be executed."""
        return self.perms[2] == "x"

    @property
    def private(self) -> bool:
        """Whether writes are the process's own."""
        return self.perms[3] == "p"

    @property
    def anonymous(self) -> bool:
        """Whether it has no file, and is not one of the kernel's, such as "[vdso]"."""
        return (
            self.inode == self.device == 0
            and self.path.startswith(("[anon:", "[heap]", "[stack"))
        ) or not (self.inode or self.device or self.path)

    def __repr__(self) -> str:
        """Show it as a line of maps."""
        return (
            f"Vma({self.start:#x}-{self.end:#x} {self.perms} {self.offset:#x} "
            f"{os.major(self.device):02x}:{os.minor(self.device):02x} {self.inode} "
            f"{self.path!r})"
        )


class AddressSpace(Sequence[Vma]):
    """The VMAs that a process had when Process.maps() read them, by address.

    The text of maps stays in native memory; a Vma is made when one is looked at.
    """

    __slots__ = ("_file", "_mm", "_vmas")

    def __init__(self, mm: Mm, look: bool = True) -> None:
        self._mm = mm
        self._file = mm.file()  # distinguishes the mm from a later one
        self._vmas = mm.read_vmas(look)

    @property
    def stale(self) -> bool:
        """True once the process has exec'd or exited: then it has none of these."""
        return self._mm.ended() in ("exec", "exited")

    def changed(self) -> Ranges:
        """Return the parts that are no longer the same VMA.

        The same: the same permissions, device, inode, path and file offset at that
        address, whatever the boundaries. Memory that was unmapped and mapped again
        alike can't be distinguished. All of it, once the process has exec'd or exited.

        Raises:
            PermissionError: ptrace read access was lost.
        """
        try:
            now = self._mm.read_vmas()
        except ProcessLookupError:
            now = VmaArray.empty()
        return Ranges._of_array(self._vmas.changed(now))

    def select(
        self,
        *,
        anonymous: bool | None = None,
        private: bool | None = None,
        readable: bool | None = None,
        writable: bool | None = None,
        executable: bool | None = None,
        path: str | None = None,
        min_length: int = 0,
    ) -> Ranges:
        """Return the ranges of the VMAs that match, one each, by address.

        Args:
            anonymous: Has no file, and is not one of the kernel's, such as "[vdso]".
            private: Mapped MAP_PRIVATE.
            readable: May be read.
            writable: May be written.
            executable: May be executed.
            path: The very path, or a glob of fnmatch(3): `*` matches "/" too,
                `[heap]` is the heap and `[anon:*]` matches such names. "" matches the
                VMAs without one.
            min_length: Bytes.

        Raises:
            TypeError: `path` is not a str.
            ValueError: `path` has a NUL, or `min_length` is negative.
        """
        min_length = operator.index(min_length)
        if min_length < 0:
            raise ValueError(f"min_length {min_length} is negative")
        pattern = None
        if path is not None:
            if not isinstance(path, str):
                raise TypeError(f"path {path!r} is not a str")
            if "\0" in path:
                raise ValueError(f"path {path!r} has a NUL")
            pattern = os.fsencode(path)
        mask = flags = 0
        for flag, asked in (
            (VMA_ANONYMOUS, anonymous),
            (VMA_SHARED, None if private is None else not private),
            (VMA_READABLE, readable),
            (VMA_WRITABLE, writable),
            (VMA_EXECUTABLE, executable),
        ):
            if asked is not None:
                mask |= flag
                flags |= flag if asked else 0
        if min_length > ADDRESS_MAX:
            return Ranges()
        return Ranges._of_array(self._vmas.select(mask, flags, min_length, pattern))

    def __len__(self) -> int:
        """Return how many VMAs there are."""
        return len(self._vmas)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: SupportsIndex) -> Vma: ...
        @overload
        def __getitem__(self, index: slice) -> list[Vma]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Vma | list[Vma]:
        """Return one VMA, or a slice as a list."""
        n = len(self)
        if isinstance(index, slice):
            return [self._vma(i) for i in range(*index.indices(n))]
        position = operator.index(index)
        if position < 0:
            position += n
        if not 0 <= position < n:
            raise IndexError(f"index {index} of {n} VMAs")
        return self._vma(position)

    def __iter__(self) -> Iterator[Vma]:
        """Iterate over the VMAs by address."""
        return map(self._vma, range(len(self)))

    def _vma(self, index: int) -> Vma:
        start, end, flags, offset, major, minor, inode, path = self._vmas.get(index)
        return Vma(
            start,
            end,
            "".join(letter if flags & flag else "-" for letter, flag in _LETTERS)
            + ("s" if flags & VMA_SHARED else "p"),
            offset,
            os.makedev(major, minor),
            inode,
            # the kernel escapes nothing but the newline: show_map_vma(), seq_path()
            os.fsdecode(path.replace(rb"\012", b"\n")),
        )

    def __repr__(self) -> str:
        """Show the number of VMAs and their bytes."""
        return f"<AddressSpace: {len(self)} VMAs, {self.select().total} bytes>"
