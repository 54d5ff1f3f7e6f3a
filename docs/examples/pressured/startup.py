"""What is needed before the loop begins: rights, descriptors, and the lock."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
from contextlib import suppress

from pmadvise import support


def prepare() -> None:
    """Look at the rights, and make room for descriptors.

    Raises:
        OSError: Other processes may not be advised.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # it was closed: no other file is to have its number
            os.open(os.devnull, os.O_RDWR)
    allowed = support().other_processes
    if not allowed:
        raise OSError(f"{allowed.reason}; {allowed.remedy}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(PermissionError):  # a seccomp filter: then fewer are watched
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def lock_of_one_instance(path: str) -> int:
    """Take the lock, which nobody else can take or hold back.

    Raises:
        BlockingIOError: Another instance has it.
        OSError: It can't be had.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    lock = os.open(path, flags, 0o600)
    status = os.fstat(lock)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise OSError(f"{path}: not a file of user {os.geteuid()}")
    os.fchmod(lock, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock
