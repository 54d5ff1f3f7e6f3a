"""Regions that were not touched, by DAMON: its sysfs interface, Linux 6.2.

Source: Documentation/admin-guide/mm/damon/usage.rst. A kernel thread, the kdamond,
looks at each region now and then: was a random page of it touched? It is given a grid
of regions as small as their number allows, and neither splits nor joins them: then the
age of a region, the number of windows in which its count of touches has not changed, is
exact. The page at address 0, which is left out of the memory, is a region too: its age
counts the windows.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import time
import weakref

from pmadvise._handle.identity import open_pidfd
from pmadvise._handle.mm import Mm
from pmadvise._idle.grid import grid
from pmadvise._idle.look import Look, private_memory
from pmadvise._native.base import PAGE_SIZE
from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
from pmadvise._proc.files import read, read_stat
from pmadvise._proc.pidfds import pid_of
from pmadvise._reasons.answer import YES, Answer
from pmadvise._reasons.idle import no_damon, running_module
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap

_ADMIN = "/sys/kernel/mm/damon/admin/kdamonds"
_NUMBER = f"{_ADMIN}/nr_kdamonds"
_KDAMOND = f"{_ADMIN}/0"
_CONTEXT = f"{_KDAMOND}/contexts/0"
_SCHEME = f"{_CONTEXT}/schemes/0"
_TRIED = f"{_SCHEME}/tried_regions"
_WATERMARKS = f"{_SCHEME}/watermarks"
"""Four numbers that the kernel keeps and, without a metric, ignores: our signature."""

_SAMPLE = 50_000
"""Microseconds between two looks at a region: another page of it each time."""
_WINDOW = 8 * _SAMPLE
"""Microseconds. With fewer than 10 looks a window, each change of the count of touches
between two windows resets the age of a region (damon_merge_regions_of())."""
_NEVER = 1 << 40
_ATTEMPTS = 40
_MAGIC = 0x706D6164
_MOST_REGIONS = 2000
_UNCOVERED = 1 / 20
"""Of the memory: when so much more is outside of the grid, there is a new one."""
_SENTINEL = (0, PAGE_SIZE)
_LOWEST = Ranges([(0, 2 * PAGE_SIZE)])
"""Left out of the grid: it is the sentinel, or next to it."""


class Damon:
    """A source with regions of equal size: a kdamond of its own.

    Raises:
        OSError: It can't be had, with the reason and the remedy; EBUSY: somebody else
            uses DAMON.
        ProcessLookupError: The process no longer has that mm.
    """

    name = "damon"

    def __init__(self, mm: Mm) -> None:
        self._mm = mm
        self.grain = PAGE_SIZE
        self._grid = Ranges()
        self._windows = 0
        self._lock = _own_damon()
        # At the end of Python too; what SIGKILL leaves, the next Damon clears away.
        self._put_back = weakref.finalize(self, _put_back, self._lock, os.getpid())

    @staticmethod
    def answer() -> Answer:
        """Return whether this host has it, and nobody uses it; changes nothing."""
        try:
            _probe().close()
        except own(OSError) as error:
            return no_damon(error.errno or 0)
        return YES

    def look(self) -> Look:
        """Return the regions that were not touched since the last look."""
        mm = self._mm
        untouched = self._untouched() if self._grid else Ranges()
        with Pagemap(mm) as pagemap:
            private, resident = private_memory(mm, pagemap)
            if (private - self._grid).total > _UNCOVERED * private.total:
                self._watch(private)
            watched = pagemap.exclusive(private & self._grid)
        return Look(untouched, watched, resident)

    def close(self) -> None:
        """End the kdamond, and leave DAMON as it was."""
        self._put_back()

    def _untouched(self) -> Ranges:
        """Return the regions without a touch in all windows since the last look."""
        try:
            _write(f"{_KDAMOND}/state", "update_schemes_tried_regions")
        except own(OSError) as error:
            raise self._refusal(error) from None
        regions = _tried_regions()
        windows = next((age for start, _, age in regions if start == 0), 0)
        since = windows - self._windows
        self._windows = windows
        return Ranges(
            (start, end - start) for start, end, age in regions if age >= since > 0
        ).merged()

    def _refusal(self, error: OSError) -> OSError:
        """Return the exception for a refusal: a kdamond ends with its process."""
        if self._mm.ended() is not None:
            return self._mm.identity.gone()
        return no_damon(error.errno or 0).error(_KDAMOND)

    def _number(self) -> int:
        """Return the ID of the process in the pid namespace of this one.

        /proc may be that of another namespace, and count otherwise.
        """
        identity = self._mm.identity
        pidfd = open_pidfd(identity.pid)
        try:
            if pid_of(pidfd.fd) == identity.number:
                return identity.pid
        finally:
            pidfd.close()
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))

    def _watch(self, private: Ranges) -> None:
        """Let the kdamond watch these pages, and what lies close by, from now on."""
        if self._grid:
            _write(f"{_KDAMOND}/state", "off")
        self._grid, self.grain = grid(private - _LOWEST, _MOST_REGIONS)
        regions = [_SENTINEL, *self._grid]
        target = f"{_CONTEXT}/targets/0"
        attributes = f"{_CONTEXT}/monitoring_attrs"
        try:
            _write(f"{target}/pid_target", self._number())
            _write(f"{target}/regions/nr_regions", 0)
            _write(f"{target}/regions/nr_regions", len(regions))
            for index, (start, length) in enumerate(regions):
                _write(f"{target}/regions/{index}/start", start)
                _write(f"{target}/regions/{index}/end", start + length)
            # No region is split while there are more than half of the most, none is
            # joined to one larger than their mean.
            least = max(len(regions), 3)
            _write(f"{attributes}/nr_regions/min", least)
            _write(f"{attributes}/nr_regions/max", 2 * least - 1)
            _write(f"{_KDAMOND}/state", "on")
        except own(OSError) as error:
            raise self._refusal(error) from None
        # The number was ours when the kernel took it, if the process still has it.
        if self._mm.ended() is not None:
            raise self._mm.identity.gone()
        self._windows = 0


def _own_damon() -> Descriptor:
    """Make a kdamond of our own; return a lock, which others of this package respect.

    Raises:
        OSError: It can't be had; nothing has changed then.
    """
    try:
        lock = _probe()
        try:
            fcntl.flock(lock.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear()
            _write(_NUMBER, 1)
        except BaseException:
            lock.close()
            raise
        try:
            _set_up()
        except BaseException:
            _clear()
            lock.close()
            raise
    except own(OSError) as error:
        number = errno.EBUSY if error.errno == errno.EAGAIN else error.errno or 0
        raise no_damon(number).error(_ADMIN) from None
    return lock


def _probe() -> Descriptor:
    """Return nr_kdamonds, open; raise OSError if a kdamond can't be had."""
    number = Descriptor.open(_NUMBER, flags=os.O_RDWR)
    try:
        if not _knows_processes():
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if running_module() is not None or _is_in_use():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    except BaseException:
        number.close()
        raise
    return number


@functools.cache
def _knows_processes() -> bool:
    """Return whether the kernel has DAMON for processes (CONFIG_DAMON_VADDR).

    Its interface tells that only in a context, which would have to be made; the names
    of its functions do too, if they may be read.
    """
    rest = b""
    try:
        with open("/proc/kallsyms", "rb", buffering=0) as file:
            while part := file.read(1 << 20):
                if b" damon_va_" in rest + part:
                    return True
                rest = part[-16:]
    except own(OSError):
        return True
    return False


def _set_up() -> None:
    """Fill in all that does not depend on the process, who we are first."""
    _write(f"{_KDAMOND}/contexts/nr_contexts", 1)
    _write(f"{_CONTEXT}/schemes/nr_schemes", 1)
    for name, number in _signature().items():
        _write(f"{_WATERMARKS}/{name}", number)
    known = read(f"{_CONTEXT}/avail_operations").split()
    # The second takes the regions that it is given, and looks for others too late.
    operations = next((name for name in (b"fvaddr", b"vaddr") if name in known), None)
    if operations is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    _write(f"{_CONTEXT}/operations", operations.decode())
    intervals = f"{_CONTEXT}/monitoring_attrs/intervals"
    _write(f"{intervals}/sample_us", _SAMPLE)
    _write(f"{intervals}/aggr_us", _WINDOW)
    _write(f"{intervals}/update_us", _NEVER)
    _write(f"{_CONTEXT}/targets/nr_targets", 1)
    _write(f"{_SCHEME}/action", "stat")
    pattern = f"{_SCHEME}/access_pattern"
    for name, most in (("sz", _NEVER << 22), ("nr_accesses", 0), ("age", 1 << 31)):
        _write(f"{pattern}/{name}/min", 0)
        _write(f"{pattern}/{name}/max", most)
    read(f"{_TRIED}/total_bytes")  # ENOENT: before Linux 6.2


def _signature() -> dict[str, int]:
    """Return who we are: no other process ever has the same."""
    return {
        "low": _MAGIC,
        "mid": _started(os.getpid()) or 0,
        "high": os.getpid(),
        "interval_us": os.stat("/proc/self/ns/pid").st_ino,
    }


def _started(pid: int) -> int | None:
    """Return when a process was started, in clock ticks; None if it has gone."""
    try:
        proc = Descriptor.open(f"/proc/{pid}", flags=os.O_DIRECTORY)
        return read_stat(proc.fd).start_ticks
    except own(OSError):
        return None


def _is_in_use() -> bool:
    """Return whether somebody else has kdamonds.

    False for one of this package whose process has ended without clearing it away.
    """
    if int(read(_NUMBER)) == 0:
        return False
    signature = _signature()
    try:
        found = {name: int(read(f"{_WATERMARKS}/{name}")) for name in signature}
    except own(OSError, ValueError):
        return True
    same = ("low", "interval_us")
    if any(found[name] != signature[name] for name in same):
        return True
    return _started(found["high"]) == found["mid"]


def _clear() -> None:
    """End the kdamond, and remove its directories."""
    for attempt in range(_ATTEMPTS):
        try:
            if int(read(_NUMBER)) == 0:
                return
            if read(f"{_KDAMOND}/state").strip() == b"on":
                _write(f"{_KDAMOND}/state", "off")
            _write(_NUMBER, 0)
        except own(OSError):  # EBUSY while anybody reads a state; it may end by itself
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.05)


def _put_back(lock: Descriptor, pid: int) -> None:
    """Clear away our kdamond; not in a child by fork."""
    if os.getpid() != pid:
        return
    try:
        _clear()
    finally:
        lock.close()


def _tried_regions() -> list[tuple[int, int, int]]:
    """Return start, end and age of each region that was found untouched."""
    return [
        (
            int(read(f"{entry.path}/start")),
            int(read(f"{entry.path}/end")),
            int(read(f"{entry.path}/age")),
        )
        for entry in os.scandir(_TRIED)
        if entry.is_dir()
    ]


def _write(path: str, value: object) -> None:
    """Write a value to a file of sysfs."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, str(value).encode())
    finally:
        os.close(file)
