"""Identity: a process by its pidfd and the directory /proc/PID opened with it."""

from __future__ import annotations

import errno
import os

from pmadvise import _reasons
from pmadvise._arguments import PidfdLike, c_int, fileno_of
from pmadvise._native.descriptor import Descriptor
from pmadvise._proc.files import Stat, read_in
from pmadvise._proc.pidfds import directory_of, has_ended, no_mm, pid_of

_Descriptors = tuple[Descriptor, Descriptor | None]


def open_pidfd(pid: int) -> Descriptor:
    """Open a pidfd of a process by its ID; errors as pidfd_open()."""
    number, pidfd = c_int("pid", pid), Descriptor()
    error = pidfd.open_process(number)
    if error < 0:
        raise _reasons.of_pidfd_open(-error).error(f"pidfd_open({number})")
    return pidfd


class Identity:
    """A process, and never a later one: its pidfd and its directory in /proc, owned.

    Args:
        pidfd: Of the process; taken over.
        pid: The number that it was opened by.

    Raises:
        ValueError: It is no pidfd, or a thread's.
        ProcessLookupError: The process has been reaped.
    """

    __slots__ = ("_descriptors", "number", "pid")

    def __init__(self, pidfd: Descriptor, pid: int) -> None:
        self.pid = int(pid)
        try:
            proc, self.number = directory_of(pidfd.fd)
            """The process ID as /proc counts, which may show another pid namespace."""
        except BaseException:
            pidfd.close()  # the traceback refers to it
            raise
        self._descriptors: _Descriptors | None = (pidfd, proc)

    @classmethod
    def open(cls, pid: int) -> Identity:
        """Open a process by its ID; errors as pidfd_open()."""
        return cls(open_pidfd(pid), pid)

    @classmethod
    def of_pidfd(cls, pidfd: PidfdLike) -> Identity:
        """Open the process of a pidfd, which stays the caller's: it is duplicated.

        Raises:
            OSError: It is no open file descriptor.
            ValueError: It is no pidfd, a thread's, or of another pid namespace.
            ProcessLookupError: The process has been reaped.
        """
        number = fileno_of(pidfd)
        copy = Descriptor.copy_of(number)
        try:
            pid = pid_of(copy.fd)
            if pid == 0:
                raise ValueError(
                    f"the process of pidfd {number} is not of this pid namespace"
                )
        except BaseException:
            copy.close()
            raise
        return cls(copy, pid)

    def close(self) -> None:
        """Close both file descriptors, once no pin is left; may be called again."""
        self._descriptors = None

    def pin(self) -> object:
        """Return an object that keeps the file descriptors open while it exists.

        Another thread may call close() while a system call uses their numbers, and a
        file opened next would get the same numbers.

        Raises:
            ValueError: This is closed.
        """
        self.pidfd  # noqa: B018 - raises when closed
        return self._descriptors

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._descriptors is None

    @property
    def pidfd(self) -> int:
        """The pidfd.

        Raises:
            ValueError: This is closed.
        """
        descriptors = self._descriptors
        if descriptors is None:
            raise ValueError(f"the Process of pid {self.pid} is closed")
        return descriptors[0].fd

    @property
    def proc(self) -> int:
        """The file descriptor of the directory /proc/PID.

        Raises:
            ValueError: This is closed.
            PermissionError: It is hidden: hidepid, or no /proc of this namespace.
        """
        descriptors = self._descriptors
        if descriptors is None:
            raise ValueError(f"the Process of pid {self.pid} is closed")
        if descriptors[1] is None:
            raise _reasons.hidden().error(f"process {self.pid}")
        return descriptors[1].fd

    @property
    def is_hidden(self) -> bool:
        """Whether the directory /proc/PID could not be opened."""
        descriptors = self._descriptors
        return descriptors is None or descriptors[1] is None

    def open_file(self, name: str, flags: int = 0) -> Descriptor:
        """Open a file of /proc/PID for reading, or with other flags.

        Raises:
            PermissionError: A right is missing; the message names it.
            ProcessLookupError: The process has gone, or has no memory.
        """
        pinned, proc = self.pin(), self.proc
        try:
            return Descriptor.open(name, proc, flags)
        except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
            raise self.refusal(name, error.errno or 0) from None
        finally:
            del pinned  # else a traceback would keep it

    def read(self, name: str) -> bytes:
        """Return the contents of a file of /proc/PID; errors as open_file()."""
        pinned, proc = self.pin(), self.proc
        try:
            return read_in(proc, name)
        except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
            raise self.refusal(name, error.errno or 0) from None
        finally:
            del pinned

    def write(self, name: str, text: bytes) -> None:
        """Write to a file of /proc/PID; errors as open_file()."""
        file = self.open_file(name, os.O_WRONLY)
        try:
            os.write(file.fd, text)
        except (ProcessLookupError, PermissionError) as error:
            raise self.refusal(name, error.errno or 0) from None
        finally:
            file.close()

    def refusal(self, name: str, number: int) -> OSError:
        """Return the exception for an errno of a file of /proc/PID."""
        if number in (errno.ENOENT, errno.ESRCH):
            return self.gone()
        answer = _reasons.of_proc_file(self.proc, name, number)
        return answer.error(f"process {self.pid}: /proc/PID/{name}")

    def stat(self) -> Stat:
        """Return the fields of /proc/PID/stat, readable for every user."""
        return Stat(self.read("stat"))

    def has_ended(self) -> bool:
        """Return whether the last thread has ended."""
        return self.wait(0)

    def is_alive(self) -> bool:
        """Return whether the leader has not exited."""
        if self.has_ended():
            return False
        if self.is_hidden:
            return True
        try:
            return self.stat().state not in "ZX"
        except (PermissionError, ProcessLookupError):
            # reaped since; or its user has changed, and /proc hides it: hidepid
            return not self.has_ended()

    def wait(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds for the end of the last thread.

        Returns:
            Whether it has ended.

        Raises:
            ValueError: `timeout` is negative, or this is closed.
        """
        pinned, pidfd = self.pin(), self.pidfd
        try:
            return has_ended(pidfd, timeout)
        finally:
            del pinned

    def gone(self, why: str | None = None) -> ProcessLookupError:
        """Return the exception for an address space that no longer exists."""
        why = why or self.why_no_mm()
        why = why or "the process has exec'd since: call maps() again"
        return ProcessLookupError(errno.ESRCH, f"process {self.pid}: {why}")

    def why_no_mm(self) -> str | None:
        """Return why there is no address space; None if there should be one."""
        pinned, pidfd = self.pin(), self.pidfd
        try:
            return no_mm(pidfd, -1 if self.is_hidden else self.proc)
        finally:
            del pinned
