"""Reclaim of a whole cgroup: memory that the kernel takes where it is coldest."""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from collections.abc import Callable

from pmadvise._advise.limits import attach
from pmadvise._arguments import check_callables, n_bytes, seconds
from pmadvise._native.base import PAGE_SIZE
from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
from pmadvise._proc.cgroups import open_cgroup
from pmadvise._proc.files import lines, read_in
from pmadvise._reasons.reclaim import no_reclaim, no_swappiness
from pmadvise._record import as_dict, record
from pmadvise.memory import swap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    ReclaimEnd = Literal["complete", "short", "timeout", "cancelled", "budget"]
else:
    ReclaimEnd = str

_FIRST, _LEAST, _MOST = 4 << 20, 1 << 20, 32 << 20
"""Bytes asked for at once."""
_GOAL = 0.1
"""Seconds that one request is to take: then the caller is asked whether to go on."""
_ANY = 1 << 64
"""Bytes: no limit."""
_MARGIN = 256 << 10
"""Bytes to stay away from a limit: the kernel takes up to twice what it is asked for
(Linux 6.1), so half of the room is asked for at once, and it takes some pages at the
least."""
_FILE = "memory.reclaim"


@record
class CgroupMemory:
    """The memory that a cgroup and those below it are charged for, in bytes.

    Source: memory.current, memory.stat and memory.swap.current; cgroup-v2.rst.
    """

    current: int
    """All of it, that of the kernel too."""
    anonymous: int
    """Of no file; without shared memory and tmpfs."""
    file: int
    """Of the page cache, shared memory and tmpfs included."""
    shmem: int
    """Of shared memory and tmpfs."""
    swap: int | None
    """In swap; None where the kernel does not count it."""


@record
class Reclaimed:
    """The account of a reclaim()."""

    requested: int
    """Bytes requested."""
    reclaimed: int
    """Bytes by which `current` fell while the kernel reclaimed: less, or below 0, where
    the cgroup took memory meanwhile."""
    ended: ReclaimEnd
    """"complete", or the reason for less: "short", the kernel found no more that it may
    take; "budget", memory.min, memory.low or the floor of swap allows no more;
    "timeout"; "cancelled" (or an exception, which carries this account)."""
    calls: int
    """Requests to the kernel."""
    elapsed: float
    """Seconds."""
    before: CgroupMemory
    after: CgroupMemory | None
    """None if the cgroup has been removed."""

    def to_dict(self) -> dict[str, object]:
        """Return all fields as json.dumps() takes them."""
        return as_dict(self)


class _Cgroup:
    """A cgroup by its open directory, and its memory.reclaim."""

    def __init__(self, name: str | bytes) -> None:
        self._name = os.fsdecode(name)
        self.calls = self.reclaimed = 0
        """Requests made, and the bytes by which the charge fell in them."""
        self._charged: int | None = None  # before a request that is not counted yet
        self._directory = open_cgroup(os.fsencode(name))
        try:
            self._file = Descriptor.open(_FILE, self._directory.fd, os.O_WRONLY)
        except own(OSError) as error:
            refusal = self._refusal(error)
            self._directory.close()
            raise refusal from None

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._directory.close()

    def _refusal(self, error: OSError) -> OSError:
        answer = no_reclaim(self._directory.fd, error.errno or 0)
        return answer.error(f"cgroup {self._name!r}: {_FILE}")

    def _read(self, file: str) -> bytes | None:
        """Return the contents of a file; None without one."""
        try:
            return read_in(self._directory.fd, file).strip()
        except own(FileNotFoundError):
            return None
        except own(OSError) as error:
            raise self._refusal(error) from None

    def _number(self, file: str) -> int | None:
        text = self._read(file)
        return int(text) if text is not None else None

    def _stat(self) -> dict[bytes, int]:
        text = self._read("memory.stat")
        if text is None:
            raise self._refusal(FileNotFoundError(errno.ENOENT, ""))
        pairs = (line.split() for line in lines(text))
        return {name: int(value) for name, value in pairs}

    def current(self) -> int:
        """Return the bytes charged; of the root, which does not count, their sum."""
        number = self._number("memory.current")
        if number is not None:
            return number
        stat = self._stat()
        return sum(stat.get(name, 0) for name in (b"anon", b"file", b"kernel"))

    def memory(self) -> CgroupMemory:
        """Return what it is charged for; OSError if it has been removed (ENODEV)."""
        stat = self._stat()
        return CgroupMemory(
            current=self.current(),
            anonymous=stat.get(b"anon", 0),
            file=stat.get(b"file", 0),
            shmem=stat.get(b"shmem", 0),
            swap=self._number("memory.swap.current"),
        )

    def memory_or_none(self) -> CgroupMemory | None:
        """Return what it is charged for; None if it has been removed."""
        try:
            return self.memory()
        except own(OSError):
            return None

    def room(self, floor: int | None) -> int:
        """Return the bytes that may be reclaimed, or less.

        The kernel protects the cgroups below the one that is written to (memory.min,
        memory.low), but not this one.

        Args:
            floor: Bytes of swap to leave free; 0 or None: any.
        """
        room = _ANY if not floor else swap().free - floor - _MARGIN
        for file in ("memory.min", "memory.low"):
            kept = self._read(file) or b"0"
            if kept == b"max":
                return 0
            if int(kept):
                room = min(room, self.current() - int(kept) - _MARGIN)
        return room

    def take(self, size: int, swappiness: int | str | None) -> tuple[bool, int, float]:
        """Have the kernel take bytes.

        Signals wait meanwhile: the kernel ends a request for one, and os.write() would
        make it again in full, for each signal once more.

        Returns:
            Whether it found as many; the bytes by which the charge fell; seconds.
        """
        more = "" if swappiness is None else f" swappiness={swappiness}"
        text, is_all = f"{size}{more}".encode(), True
        begin = time.monotonic()
        # The call that blocks them may raise for one that came before.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            self._charged = self.current()
            os.write(self._file.fd, text)
        except own(BlockingIOError):  # EAGAIN: less than that
            is_all = False
        except own(OSError) as error:
            self._charged = None
            if error.errno == errno.EINVAL and more:
                answer = no_swappiness(swappiness)
                raise answer.error(f"cgroup {self._name!r}: {_FILE}") from None
            raise self._refusal(error) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        elapsed = time.monotonic() - begin
        return is_all, self.count(), elapsed

    def count(self) -> int:
        """Count the latest request, if that is not done; return the fall in it."""
        if self._charged is None:
            return 0
        fall, self._charged = self._charged - self.current(), None
        self.calls += 1
        self.reclaimed += fall
        return fall


def reclaim(
    cgroup: str | os.PathLike[str],
    size: int,
    *,
    swappiness: int | str | None = None,
    swap_floor: int = 0,
    timeout: float | None = None,
    stop: Callable[[], object] | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Reclaimed:
    """Have the kernel reclaim memory of a cgroup and those below it, coldest first.

    By memory.reclaim, in requests of about a tenth of a second. It needs write access
    to that file and no capability, takes no lock of a process, and takes shared memory
    and page cache too, unlike PAGEOUT. Linux 5.19, cgroup version 2; cgroup-v2.rst.

    Args:
        cgroup: Its directory, or its path as /proc/PID/cgroup has it.
        size: Bytes.
        swappiness: 0, of files alone, to 200, rather of what goes to swap (with MGLRU
            of files all the same, where these are colder); "max" of that alone. None:
            the host's. Linux 6.9, "max" 6.16.
        swap_floor: Bytes of swap to leave free: then `ended` is "budget".
        timeout: Seconds: end after so many; looked at between requests.
        stop: Called before each request; a true value ends the work ("cancelled").
        on_progress: Called with (bytes done, `size`) after each request.

    Returns:
        The account. That the kernel found less than `size` is no error: "short".

    Raises:
        TypeError, ValueError: An argument is wrong; nothing was reclaimed.
        FileNotFoundError: There is no such cgroup; or it has no memory.reclaim, of
            version 1, without the memory controller, or before Linux 5.19.
        PermissionError: It is another user's.
        OSError: The kernel does not know the swappiness (EINVAL); the cgroup file
            system is read-only (EROFS); the cgroup was removed (ENODEV); with
            `swap_floor`, swap is hidden. Once work has begun, any exception has the
            account so far as its `.reclaimed`.
    """
    wanted, floor = n_bytes("size", size), n_bytes("swap_floor", swap_floor)
    if swappiness not in (None, "max") and not (
        isinstance(swappiness, int)
        and not isinstance(swappiness, bool)
        and 0 <= swappiness <= 200
    ):
        raise ValueError(f'swappiness {swappiness!r} is not 0 to 200, nor "max"')
    limit = math.inf if timeout is None else seconds("timeout", timeout)
    check_callables(stop=stop, on_progress=on_progress)
    if floor:
        swap()  # raises, before anything is reclaimed, where it is hidden
    begin = time.monotonic()
    place = _Cgroup(os.fspath(cgroup))
    try:
        before = place.memory()
        done, batch = 0, _FIRST
        ended: ReclaimEnd | None = None

        def account(ended: ReclaimEnd) -> Reclaimed:
            elapsed, after = time.monotonic() - begin, place.memory_or_none()
            if after is not None:
                place.count()  # that in which an exception came
            counts = wanted, place.reclaimed, ended, place.calls
            return Reclaimed(*counts, elapsed, before, after)

        try:
            while done < wanted and ended is None:
                asked = min(wanted - done, batch)
                room = place.room(None if swappiness == 0 else floor)
                if stop is not None and stop():
                    ended = "cancelled"
                elif time.monotonic() - begin >= limit:
                    ended = "timeout"
                elif room < min(PAGE_SIZE, asked):
                    ended = "budget"
                else:
                    asked = min(asked, max(room // 2, PAGE_SIZE))
                    is_all, fall, elapsed = place.take(asked, swappiness)
                    done += max(asked if is_all else 0, fall)
                    speed = asked / max(elapsed, 1e-9)
                    batch = min(max(int(speed * _GOAL), _LEAST), _MOST)
                    if not is_all and fall <= asked // 8:
                        ended = "short"
                    if on_progress is not None:
                        on_progress(min(done, wanted), wanted)
            return account(ended or "complete")
        except BaseException as error:
            attach(error, "reclaimed", account("cancelled"))
            raise
    finally:
        place.close()
