"""Mappings of a process: a snapshot of /proc/PID/maps."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence

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
from pmadvise._origin import own
from pmadvise._record import record
from pmadvise.ranges import Ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsIndex, overload

_LETTERS = (("r", VMA_READABLE), ("w", VMA_WRITABLE), ("x", VMA_EXECUTABLE))


@record
class Vma:
    """A virtual memory area: a line of /proc/PID/maps.

    Source: proc_pid_maps(5).
    """

    start: int
    """First address."""
    end: int
    """First address after it."""
    perms: str
    """In the form of maps: "rw-p"."""
    offset: int
    """Bytes into the file."""
    device: int
    """Of the file, as st_dev of os.stat(); 0 without a file."""
    inode: int
    """Of the file; 0 without a file."""
    path: str
    """Of the file, undecodable bytes by surrogateescape, with " (deleted)" if it was
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
        """Whether other processes do not see the writes of this one."""
        return self.perms[3] == "p"

    @property
    def anonymous(self) -> bool:
        """Whether it has no file and is not a kernel's mapping, such as "[vdso]"."""
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
    """The VMAs of a process when Process.maps() read them, by address.

    The text of maps stays in native memory; a Vma is created on access.
    """

    __slots__ = ("_file", "_mm", "_vmas")

    def __init__(self, mm: Mm, verify: bool = True) -> None:
        self._mm = mm
        self._file = mm.file()  # distinguishes the mm from a later one
        self._vmas = mm.read_vmas(verify)

    @property
    def stale(self) -> bool:
        """Whether the process has exec'd or exited: then these VMAs no longer exist."""
        return self._mm.ended() in ("exec", "exited")

    def changed(self) -> Ranges:
        """Return the parts of the VMAs that have changed since.

        A part is unchanged if its address still has the same permissions, device,
        inode, path and file offset, even if the boundaries of the VMA differ. Memory
        that was unmapped and mapped again with the same attributes can't be
        distinguished. After an exec or the exit, all parts are returned.

        Raises:
            PermissionError: ptrace read access was lost.
        """
        try:
            now = self._mm.read_vmas()
        except own(ProcessLookupError):
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
            anonymous: Has no file and is not a kernel's mapping, such as "[vdso]".
            private: Mapped MAP_PRIVATE.
            readable: May be read.
            writable: May be written.
            executable: May be executed.
            path: The exact path, or a glob of fnmatch(3): `*` matches "/" too,
                `[heap]` is the heap and `[anon:*]` matches such names. "" matches VMAs
                without a path.
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
        for flag, wanted in (
            (VMA_ANONYMOUS, anonymous),
            (VMA_SHARED, None if private is None else not private),
            (VMA_READABLE, readable),
            (VMA_WRITABLE, writable),
            (VMA_EXECUTABLE, executable),
        ):
            if wanted is not None:
                mask |= flag
                flags |= flag if wanted else 0
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
            # the kernel escapes only the newline: show_map_vma(), seq_path()
            os.fsdecode(path.replace(rb"\012", b"\n")),
        )

    def __repr__(self) -> str:
        """Show the number of VMAs and their bytes."""
        return f"<AddressSpace: {len(self)} VMAs, {self.select().total} bytes>"
