"""Identity: a process by its pidfd and the directory /proc/PID opened with it."""

from __future__ import annotations

import _thread
import errno
import os
import weakref

from pmadvise import _reasons
from pmadvise._arguments import PidfdLike, c_int, fileno_of, pin_of
from pmadvise._native.descriptor import Descriptor
from pmadvise._origin import own
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

    __slots__ = ("_descriptors", "_files", "_users", "is_hidden", "number", "pid")

    def __init__(self, pidfd: Descriptor, pid: int) -> None:
        self.pid = int(pid)
        try:
            proc, self.number = directory_of(pidfd.fd)
            """The process ID as /proc counts, which may show another pid namespace."""
        except BaseException:
            pidfd.close()  # the traceback refers to it
            raise
        self.is_hidden = proc is None
        """Whether the directory /proc/PID could not be opened."""
        self._descriptors: _Descriptors | None = (pidfd, proc)
        self._files: set[weakref.ref[Descriptor]] = set()
        self._users: set[weakref.ref[Pin]] = set()

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
        with pin_of(pidfd):
            number = fileno_of(pidfd)
            copy = Descriptor.copy_of(number)
        try:
            pid = pid_of(copy.fd, number)
            if pid == 0:
                raise ValueError(
                    f"the process of pidfd {number} is not of this pid namespace"
                )
        except BaseException:
            copy.close()
            raise
        return cls(copy, pid)

    def close(self) -> None:
        """Close all file descriptors, once no Pin is left; may be called again."""
        descriptors, self._descriptors = self._descriptors, None
        self._close_unless_used(descriptors)

    def _close_unless_used(self, descriptors: _Descriptors | None) -> None:
        """Close them if this is closed: Identity.close(), or the last one to unpin."""
        # Two threads may come here at once: a Descriptor is closed only once.
        if self.closed and not self._users:
            files = [reference() for reference in list(self._files)]
            for descriptor in (*(descriptors or ()), *files):
                if descriptor is not None:
                    descriptor.close()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._descriptors is None

    def pin(self) -> Pin:
        """Return a context manager that keeps the file descriptors open meanwhile.

        Another thread may call close() while a system call uses their numbers, and a
        file opened next would get the same numbers. So a number is used under a pin
        only. A thread that has one gets another, even after close().

        Raises:
            ValueError: This is closed.
        """
        descriptors = self._descriptors  # a daemon pins thousands of times a second
        pin = Pin(self, self._opened() if descriptors is None else descriptors)
        # close() may be called meanwhile: it closes before it looks for users.
        if self._descriptors is None and len(self._pins_here()) == 1:
            pin.release()
            raise self._is_closed()
        return pin

    def _opened(self) -> _Descriptors:
        """Return the descriptors; those of a pin of this thread if this is closed."""
        descriptors = self._descriptors
        if descriptors is not None:
            return descriptors
        for pin in self._pins_here():
            return pin.descriptors
        raise self._is_closed()

    def _pins_here(self) -> list[Pin]:
        """Return those of this thread."""
        pins = [reference() for reference in list(self._users)]
        thread = _thread.get_ident()
        return [pin for pin in pins if pin is not None and pin.thread == thread]

    def close_with_this(self, file: Descriptor) -> None:
        """Close another file of the process with these; called under a pin."""
        self._files.add(weakref.ref(file, self._files.discard))

    def _is_closed(self) -> ValueError:
        return ValueError(f"the Process of pid {self.pid} is closed")

    @property
    def pidfd(self) -> int:
        """The pidfd, to be used under a pin.

        Raises:
            ValueError: This is closed.
        """
        return self._opened()[0].fd

    @property
    def proc(self) -> int:
        """The file descriptor of the directory /proc/PID, to be used under a pin.

        Raises:
            ValueError: This is closed.
            PermissionError: It is hidden: hidepid, or no /proc of this namespace.
        """
        _, proc = self._opened()
        if proc is None:
            raise _reasons.hidden().error(f"process {self.pid}")
        return proc.fd

    def open_file(self, name: str, flags: int = 0) -> Descriptor:
        """Open a file of /proc/PID for reading, or with other flags.

        Raises:
            PermissionError: A right is missing; the message names it.
            ProcessLookupError: The process has gone, or has no memory.
        """
        with self.pin():
            try:
                return Descriptor.open(name, self.proc, flags)
            except own(FileNotFoundError, ProcessLookupError, PermissionError) as error:
                raise self.refusal(name, error.errno or 0) from None

    def read(self, name: str) -> bytes:
        """Return the contents of a file of /proc/PID; errors as open_file()."""
        with self.pin():
            try:
                return read_in(self.proc, name)
            except own(FileNotFoundError, ProcessLookupError, PermissionError) as error:
                raise self.refusal(name, error.errno or 0) from None

    def write(self, name: str, text: bytes) -> None:
        """Write to a file of /proc/PID; errors as open_file()."""
        file = self.open_file(name, os.O_WRONLY)
        try:
            os.write(file.fd, text)
        except own(ProcessLookupError, PermissionError) as error:
            raise self.refusal(name, error.errno or 0) from None
        finally:
            file.close()

    def refusal(self, name: str, number: int) -> OSError:
        """Return the exception for an errno of a file of /proc/PID."""
        if number in (errno.ENOENT, errno.ESRCH):
            return self.gone()
        with self.pin():
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
        except own(PermissionError, ProcessLookupError):
            # reaped since; or its user has changed, and /proc hides it: hidepid
            return not self.has_ended()

    def wait(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds for the end of the last thread.

        Returns:
            Whether it has ended.

        Raises:
            ValueError: `timeout` is negative, or this is closed.
        """
        with self.pin():
            return has_ended(self.pidfd, timeout)

    def gone(self, why: str | None = None) -> ProcessLookupError:
        """Return the exception for an address space that no longer exists."""
        why = why or self.why_no_mm()
        why = why or "the process has exec'd since: call maps() again"
        return ProcessLookupError(errno.ESRCH, f"process {self.pid}: {why}")

    def why_no_mm(self) -> str | None:
        """Return why there is no address space; None if there should be one."""
        with self.pin():
            return no_mm(self.pidfd, -1 if self.is_hidden else self.proc)


class Pin:
    """A use of an Identity's file descriptors: they stay open until it has ended.

    It owns them, with the Identity unless that is closed. It ends with its block, by
    release(), or at the latest with this object: an exception of a signal handler may
    come between pin() and the block.
    """

    __slots__ = ("__weakref__", "_identity", "_reference", "descriptors", "thread")

    def __init__(self, identity: Identity, descriptors: _Descriptors) -> None:
        self._identity, self.descriptors = identity, descriptors
        self.thread = _thread.get_ident()
        # Not by __del__: that is Python code, which a signal handler may interrupt.
        self._reference = reference = weakref.ref(self, identity._users.discard)
        identity._users.add(reference)

    def __enter__(self) -> Pin:
        """Return itself."""
        return self

    @property
    def proc(self) -> int:
        """As Identity.proc."""
        proc = self.descriptors[1]
        return self._identity.proc if proc is None else proc.fd

    def release(self, *_: object) -> None:
        """End the use; may be called again."""
        identity = self._identity
        identity._users.discard(self._reference)
        if identity._descriptors is None:
            identity._close_unless_used(self.descriptors)

    __exit__ = release
