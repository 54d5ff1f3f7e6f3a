"""Pressure: a trigger of the kernel's pressure stall information (PSI)."""

from __future__ import annotations

import errno
import math
import os
import select

from pmadvise._native.descriptor import Descriptor
from pmadvise._proc.files import wait_for_event
from pmadvise._reasons import no_pressure

_SHORTEST, _LONGEST = 0.5, 10.0  # seconds: kernel/sched/psi.c, WINDOW_{MIN,MAX}_US
_COMMON_WINDOW = 2.0  # seconds: without CAP_SYS_RESOURCE a multiple of this


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
        TypeError, ValueError: `stall` or `window` is wrong.
        FileNotFoundError: There is no such file: no cgroup, or a kernel without PSI.
        PermissionError: The file may not be written.
        OSError: The kernel refuses the trigger; the message states the reason.
    """

    __slots__ = ("_file", "path", "stall", "window")

    def __init__(
        self,
        path: str | os.PathLike[str] = "/proc/pressure/memory",
        stall: float = 0.02,
        window: float = 2.0,
    ) -> None:
        self._file: Descriptor | None = None
        self.path = os.fspath(path)
        self.stall, self.window = _checked(stall, window)
        """The seconds that the kernel accepted."""
        file = self._open()
        try:
            self._arm(file.fd)
        except BaseException:
            file.close()  # the traceback refers to it
            raise
        self._file = file

    def _open(self) -> Descriptor:
        try:
            return Descriptor.open(self.path, flags=os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            path = os.fsdecode(self.path)
            raise no_pressure(path, error.errno or errno.EIO).error(path) from None

    def _arm(self, fd: int) -> None:
        try:
            self._write(fd)
        except OSError as error:
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
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.path}: {os.strerror(error.errno or 0)}: the kernel accepts "
                f"no trigger for {asked}, nor for {self.stall:g} s in {window:g} s",
            ) from None

    def _write(self, fd: int) -> None:
        stall, window = round(self.stall * 1e6), round(self.window * 1e6)
        os.write(fd, b"some %d %d\0" % (stall, window))

    def fileno(self) -> int:
        """Return the file descriptor, for a selector: POLLPRI after it has fired.

        POLLERR: the cgroup was removed. Unregister the descriptor then, or each poll(2)
        returns at once.

        Raises:
            ValueError: This is closed.
        """
        file = self._file
        if file is None:
            raise ValueError(f"the Pressure of {self.path} is closed")
        return file.fd

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it fires.

        Args:
            timeout: Seconds, 0 or more; None: no limit.

        Returns:
            True if it has fired.

        Raises:
            ValueError: `timeout` is negative, or this is closed.
            OSError: The cgroup has been removed (ENODEV).
        """
        events = wait_for_event(self.fileno(), select.POLLPRI, timeout)
        if events & select.POLLERR:
            text = f"{self.path}: the cgroup of this trigger has been removed"
            raise OSError(errno.ENODEV, text)
        return events != 0

    def close(self) -> None:
        """Remove the trigger; may be called again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __enter__(self) -> Pressure:
        """Return itself."""
        self.fileno()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the trigger."""
        self.close()


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
