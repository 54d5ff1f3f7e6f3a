"""Pressure: a trigger of the kernel's pressure stall information (PSI)."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import stat

from pmadvise._native.base import original
from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
from pmadvise._proc.files import poll_now, read, wait_readable
from pmadvise._reasons import no_pressure

_SHORTEST, _LONGEST = 0.5, 10.0  # seconds: kernel/sched/psi.c, WINDOW_{MIN,MAX}_US
_COMMON_WINDOW = 2.0  # seconds: without CAP_SYS_RESOURCE a multiple of this
_PROC_MAGIC, _CGROUP2_MAGIC = 0x9FA0, 0x63677270  # linux/magic.h
_HOST = "/proc/pressure"

_select = original(select)


class Pressure:
    """A trigger that fires after tasks were stalled by a lack of memory: PSI.

    It fires at most once per window, and only seconds after pressure began: poll a
    watermark every 50 to 100 ms for early warning, and use this as the backup. A
    context manager.

    >>> import pmadvise
    >>> with pmadvise.Pressure(stall=0.1) as pressure:
    ...     fired = pressure.wait(timeout=0)
    ...     pressure.window
    2.0

    Source: Documentation/accounting/psi.rst; Linux 5.2.

    Args:
        path: Of a pressure file: the host's, or memory.pressure of a cgroup, which its
            owner may open.
        stall: Seconds within a window in which some task is stalled, more than 0.
        window: Seconds, 0.5 to 10. Without CAP_SYS_RESOURCE the kernel accepts only
            multiples of 2 s (Linux 6.5): then the window is rounded up to one, and the
            stall grows in proportion.

    Raises:
        TypeError, ValueError: `stall` or `window` is wrong, or `path` is no pressure
            file: nothing is written to it then.
        FileNotFoundError: There is no such file: no cgroup, or a kernel without PSI.
        PermissionError: The file may not be written.
        OSError: The kernel refuses the trigger; the message states the reason.
    """

    __slots__ = ("_trigger", "path", "stall", "window")

    def __init__(
        self,
        path: str | os.PathLike[str] = "/proc/pressure/memory",
        stall: float = 0.02,
        window: float = 2.0,
    ) -> None:
        self._trigger: _Trigger | None = None
        self.path = os.fspath(path)
        self.stall, self.window = _checked(stall, window)
        """The seconds that the kernel accepted."""
        file = _open(self.path)
        try:
            self._arm(file.fd)
            self._trigger = _Trigger(file)
        except BaseException:
            file.close()  # the traceback refers to it
            raise

    def _arm(self, fd: int) -> None:
        try:
            self._write(fd)
        except own(OSError) as error:
            if error.errno != errno.EINVAL:
                text = f"{self.path}: {os.strerror(error.errno or 0)}"
                raise OSError(error.errno, text) from None
        else:
            return
        asked = f"stall {self.stall:g} s in a window of {self.window:g} s"
        window = math.ceil(self.window / _COMMON_WINDOW) * _COMMON_WINDOW
        self.stall, self.window = self.stall * window / self.window, window
        try:
            self._write(fd)
        except own(OSError) as error:
            raise OSError(
                error.errno,
                f"{self.path}: {os.strerror(error.errno or 0)}: the kernel accepts "
                f"no trigger for {asked}, nor for {self.stall:g} s in {window:g} s",
            ) from None

    def _write(self, fd: int) -> None:
        stall, window = round(self.stall * 1e6), round(self.window * 1e6)
        os.write(fd, b"some %d %d\0" % (stall, window))

    def fileno(self) -> int:
        """Return a file descriptor for a loop: readable once after it has fired.

        The loop that finds it readable has taken the event: nothing is to be read. An
        event is kept until a loop looks, but epoll(7) drops it when the descriptor is
        registered or armed again: call ``wait(0)`` before that.

        Once the cgroup has been removed it stays readable until ``wait(0)`` reports
        that: call it in each callback, and remove the reader when it raises OSError. A
        callback that does not call it is called without end, which takes a whole CPU.
        Remove the reader before ``close()`` too: the number may be another file's then.

        Raises:
            ValueError: This is closed.
        """
        return self._opened().ready.fileno()

    def _opened(self) -> _Trigger:
        trigger = self._trigger
        if trigger is None:
            raise self._is_closed()
        return trigger

    def _is_closed(self) -> ValueError:
        return ValueError(f"the Pressure of {self.path} is closed")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it fires, and take the event.

        Args:
            timeout: Seconds, 0 or more; None: no limit.

        Returns:
            True if it has fired.

        Raises:
            ValueError: `timeout` is negative, or this is closed: before the call, or
                meanwhile by another thread or a signal handler.
            OSError: The cgroup has been removed, or its PSI was switched off (ENODEV).
                ``fileno()`` is not readable any more.
        """
        trigger = self._opened()
        with trigger:
            fired = trigger.wait(timeout)
            if trigger.is_closed:
                raise self._is_closed()
            if fired and trigger.is_gone():
                text = (
                    f"{self.path}: the cgroup of this trigger has been removed, or its "
                    "cgroup.pressure was set to 0"
                )
                raise OSError(errno.ENODEV, text)
        return fired

    def close(self) -> None:
        """Remove the trigger, and end each wait() for it; may be called again.

        With threads in wait() it is removed as soon as these have ended.
        """
        trigger, self._trigger = self._trigger, None
        if trigger is not None:
            trigger.close()

    def __enter__(self) -> Pressure:
        """Return itself."""
        self.fileno()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the trigger."""
        self.close()


class _Trigger:
    """The files of a trigger, which the last one to use them closes.

    Another thread may close it while a system call uses the numbers of the files, and
    files opened next would get the same numbers. So they are used in its block only.

    Args:
        file: The pressure file, in which the trigger is set; taken over.
    """

    __slots__ = ("_file", "_is_reported", "_to_close", "_users", "is_closed", "ready")

    def __init__(self, file: Descriptor) -> None:
        self._file = file
        # A pressure file is always readable, and EPOLLPRI is not what event loops
        # wait for. This is readable once an event, as to look at it takes that.
        self.ready: select.epoll = _select.epoll()
        self.ready.register(file.fd, _select.EPOLLPRI)
        self._to_close = [self.ready]
        self._users: list[None] = []
        self._is_reported = False
        self.is_closed = False

    def __enter__(self) -> _Trigger:
        """Keep the files open."""
        self._users.append(None)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files if that is asked for, and nobody else uses them."""
        self._users.pop()
        if self.is_closed and not self._users:
            # Two threads may come here at once: only one of them gets it.
            with contextlib.suppress(IndexError):
                self._to_close.pop().close()
            self._file.close()

    def wait(self, timeout: float | None) -> bool:
        """Wait for an event, for the end of the cgroup or for close()."""
        if self.is_closed or self._is_reported:
            return True
        return wait_readable(self.ready.fileno(), timeout)

    def is_gone(self) -> bool:
        """Return whether the cgroup has gone; no loop finds it readable any more."""
        if not poll_now(self._file.fd, 0) & _select.POLLERR:
            return False
        self._is_reported = True
        if len(self._users) == 1:  # those who wait are to find it too
            try:
                self.ready.unregister(self._file.fd)
            except own(FileNotFoundError):
                pass  # it was done before
        return True

    def close(self) -> None:
        """Close the files as soon as nobody uses them, and wake those who wait."""
        with self:
            if self.is_closed:
                return
            self.is_closed = True
            # It is always readable.
            try:
                self.ready.modify(self._file.fd, _select.EPOLLIN)
            except own(FileNotFoundError):
                pass  # nobody waits any more


def _open(path: str) -> Descriptor:
    """Open a pressure file to write to it.

    Raises:
        ValueError: It is no pressure file; none of another kind is opened.
        OSError: It can't be opened; the message states the reason.
    """
    try:
        place = Descriptor.open(path, flags=os.O_PATH)
        try:
            same = f"/proc/self/fd/{place.fd}"
            if not _is_pressure_file(place, same):
                raise ValueError(
                    f"{path!r} is no pressure file: neither one of {_HOST} nor one of "
                    "a cgroup of v2, such as memory.pressure"
                )
            return Descriptor.open(same, flags=os.O_RDWR | os.O_NONBLOCK)
        finally:
            place.close()
    except own(OSError) as error:
        name = os.fsdecode(path)
        raise no_pressure(name, error.errno or errno.EIO).error(name) from None


def _is_pressure_file(place: Descriptor, same: str) -> bool:
    """Return whether an O_PATH descriptor, `same` in /proc, is of a pressure file."""
    status = os.fstat(place.fd)
    if not stat.S_ISREG(status.st_mode):
        return False
    kind = place.filesystem
    if kind < 0:
        raise OSError(-kind, os.strerror(-kind))
    if kind == _PROC_MAGIC:  # where to read may do harm: /proc/kmsg
        with os.scandir(_HOST) as entries:
            return status.st_ino in [entry.stat().st_ino for entry in entries]
    if kind != _CGROUP2_MAGIC:
        return False
    try:
        return read(same).startswith(b"some ")
    except own(OSError) as error:
        if error.errno == errno.EINVAL:  # a file that is only written to: cgroup.kill
            return False
        raise


def _checked(stall: float, window: float) -> tuple[float, float]:
    """Return a stall and a window in seconds that the kernel may accept."""
    for name, value in (("stall", stall), ("window", window)):
        if not isinstance(value, (int, float)):
            raise TypeError(f"{name} {value!r} is not a number of seconds")
    if not _SHORTEST <= window <= _LONGEST:
        raise ValueError(
            f"window {window!r} s is not between {_SHORTEST:g} and {_LONGEST:g} s"
        )
    if not 0 < stall <= window or round(stall * 1e6) == 0:
        raise ValueError(f"stall {stall!r} s is not between 1 us and the window")
    return float(stall), float(window)
