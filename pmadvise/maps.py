"""The mappings of a process: /proc/PID/maps as a snapshot."""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, overload

from pmadvise import _sys
from pmadvise._sys import (
    VMA_ANONYMOUS,
    VMA_EXECUTABLE,
    VMA_READABLE,
    VMA_SHARED,
    VMA_WRITABLE,
)
from pmadvise.ranges import Ranges

_AUXV_MAX = 4096


def open_proc(proc: int, name: str) -> int:
    """Open a file of the directory /proc/PID; return its file descriptor.

    Raises:
        PermissionError: ptrace read access is missing, or the directory is not seen.
        ProcessLookupError: The process has gone.
    """
    if proc < 0:
        raise PermissionError(
            errno.EACCES,
            "the process's directory in /proc is not to be seen: /proc is mounted with "
            "hidepid, or shows another pid namespace",
        )
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, "the process has exited") from None
    except ProcessLookupError:  # newer kernels, where there is no mm
        raise ProcessLookupError(
            errno.ESRCH, f"/proc/PID/{name}: the process has exited or has no memory"
        ) from None
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            f"/proc/PID/{name}: ptrace read access to the process is refused: run as "
            "its user, or with CAP_SYS_PTRACE",
        ) from None


def read_proc(proc: int, name: str) -> bytes:
    """Return the contents of a file of the directory /proc/PID; as open_proc()."""
    with open(open_proc(proc, name), "rb", buffering=0) as file:
        return file.readall()


class Mm:
    """The address space that a process had when this was opened, and no later one.

    An open /proc/PID/maps belongs to the mm that it was opened on for ever: it is the
    cookie that tells an exec, which the pidfd lives through. It does not tell one when
    others share the mm (the child of a vfork(2) that has not yet exec'd); the auxiliary
    vector, new with each exec, does.

    Args:
        proc: File descriptor of the directory /proc/PID; not closed here. -1 where it
            is not to be seen.

    Raises:
        PermissionError: ptrace read access is missing.
        ProcessLookupError: The process has gone.
    """

    __slots__ = ("_auxv", "_fd", "_gone", "_proc")

    def __init__(self, proc: int) -> None:
        self._proc, self._fd, self._gone = proc, -1, False
        # In this order, so that an exec between the two is seen.
        self._auxv = self._read_auxv()
        self._fd = open_proc(proc, "maps")

    def _read_auxv(self) -> bytes:
        fd = open_proc(self._proc, "auxv")
        try:
            return os.read(fd, _AUXV_MAX)
        finally:
            os.close(fd)

    def fileno(self) -> int:
        """Return the file descriptor of maps."""
        if self._fd < 0:
            raise ValueError("the Process of this address space is closed")
        return self._fd

    @property
    def current(self) -> bool:
        """Whether it is still what the process runs in."""
        fd = self.fileno()
        if self._gone:
            return False
        result = _sys.procmap_query(fd)
        if result in (0, -errno.ENOENT, -errno.ESRCH):
            alive = result != -errno.ESRCH
        else:  # before Linux 6.11: nothing to read, no mm
            try:
                alive = bool(os.pread(fd, 1, 0))
            except ProcessLookupError:
                alive = False
        try:
            self._gone = not alive or self._read_auxv() != self._auxv
        except ProcessLookupError:
            self._gone = True
        except PermissionError:  # exec'd to what may not be read
            return False
        return not self._gone

    def read(self) -> tuple[Any, int]:
        """Return the text of maps as it is now, of no VMA if this is not current.

        By a file of its own: the kernel keeps a place in the text for each open file,
        and where threads, or a fork, read by the same one, it counts through the VMAs
        anew, into the middle of a line when they have changed.
        """
        self.fileno()
        if self._gone:
            return _sys.text_from_bytes(b"")
        try:
            fd = open_proc(self._proc, "maps")
        except ProcessLookupError:
            return _sys.text_from_bytes(b"")
        try:
            # Opened while the mm was the current one, so it is of that mm.
            return _sys.read_text(fd) if self.current else _sys.text_from_bytes(b"")
        finally:
            os.close(fd)

    def fate(self) -> Literal["exec", "exited"] | None:
        """Return what became of it: None while it is current."""
        if self.current:
            return None
        try:
            return "exec" if read_proc(self._proc, "auxv") else "exited"
        except PermissionError:
            return "exec"
        except ProcessLookupError:
            return "exited"

    def close(self) -> None:
        """Close the file descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # One that an exec made old belongs to the AddressSpaces made of it.
        self.close()


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
        """Whether it has no file, and is none of the kernel's, such as "[vdso]"."""
        return (
            self.inode == self.device == 0
            and self.path.startswith(("[anon:", "[heap]", "[stack"))
        ) or not (self.inode or self.device or self.path)

    def __repr__(self) -> str:
        return (
            f"Vma({self.start:#x}-{self.end:#x} {self.perms} {self.offset:#x} "
            f"{os.major(self.device):02x}:{os.minor(self.device):02x} {self.inode} "
            f"{self.path!r})"
        )


class AddressSpace(Sequence[Vma]):
    """The VMAs that a process had when Process.maps() read them, by address.

    The text of maps stays a native array; a Vma is made of what is looked at.
    """

    __slots__ = ("_mm", "_n", "_size", "_text", "_vmas")

    def __init__(self, mm: Mm) -> None:
        self._mm = mm
        self._text, self._size = mm.read()
        self._vmas, self._n = _sys.maps_parse(self._text, self._size)

    @property
    def stale(self) -> bool:
        """True once the process has exec'd or exited: then it has none of these."""
        return not self._mm.current

    def changed(self) -> Ranges:
        """Return the parts that are no longer the same VMA.

        The same: the same permissions, device, inode, path and file offset at that
        address, whatever the borders. What was unmapped and mapped again alike can't
        be told. All of it, once the process has exec'd or exited.
        """
        text, size = self._mm.read()
        now, n = _sys.maps_parse(text, size)
        return Ranges._adopt(
            *_sys.vmas_changed(self._vmas, self._n, self._text, now, n, text)
        )

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
        """Return the ranges of the VMAs that are as asked, one each, by address.

        Args:
            anonymous: Has no file, and is none of the kernel's, such as "[vdso]".
            private: Mapped MAP_PRIVATE.
            readable: May be read.
            writable: May be written.
            executable: May be executed.
            path: The very path, or a glob of fnmatch(3): "*" matches "/" too,
                "[heap]" is the heap and "[anon:*]" what has such a name. "" are those
                without one.
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
        if min_length > _sys.ADDRESS_MAX:
            return Ranges()
        return Ranges._adopt(
            *_sys.vmas_select(
                self._vmas,
                self._n,
                self._text,
                self._size,
                mask,
                flags,
                min_length,
                pattern,
            )
        )

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: SupportsIndex) -> Vma: ...
    @overload
    def __getitem__(self, index: slice) -> list[Vma]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Vma | list[Vma]:
        if isinstance(index, slice):
            return [self._vma(i) for i in range(*index.indices(self._n))]
        position = operator.index(index)
        if position < 0:
            position += self._n
        if not 0 <= position < self._n:
            raise IndexError(f"index {index} of {self._n} VMAs")
        return self._vma(position)

    def __iter__(self) -> Iterator[Vma]:
        return map(self._vma, range(self._n))

    def _vma(self, index: int) -> Vma:
        vma = self._vmas[index]
        path = _sys.text_bytes(self._text, vma.path, vma.path_length)
        return Vma(
            vma.start,
            vma.end,
            "".join(
                letter if vma.flags & flag else "-"
                for letter, flag in (
                    ("r", VMA_READABLE),
                    ("w", VMA_WRITABLE),
                    ("x", VMA_EXECUTABLE),
                )
            )
            + ("s" if vma.flags & VMA_SHARED else "p"),
            vma.offset,
            os.makedev(vma.major, vma.minor),
            vma.inode,
            # the kernel escapes nothing but the newline: show_map_vma(), seq_path()
            os.fsdecode(path.replace(rb"\012", b"\n")),
        )

    def __repr__(self) -> str:
        total = Ranges._adopt(
            *_sys.vmas_select(self._vmas, self._n, self._text, 0, 0, 0, 0, None)
        ).total
        return f"<AddressSpace: {self._n} VMAs, {total} bytes>"
