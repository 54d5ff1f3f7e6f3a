"""What is needed before the loop begins: rights, descriptors, and the lock."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
from contextlib import suppress

from options import Options

from pmadvise import reclaim, support


def prepare(options: Options) -> str:
    """Look at the rights, and make room for descriptors.

    Returns:
        Why no process may be paged out, though a cgroup may be relieved as a whole; "".

    Raises:
        OSError: Other processes may not be advised, nor the cgroups be relieved.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # it was closed: no other file is to have its number
            os.open(os.devnull, os.O_RDWR)
    allowed = support().other_processes
    refusal = "" if allowed else f"{allowed.reason}; {allowed.remedy}"
    if refusal and not (options.by == "auto" and any(map(may_reclaim, options.cgroup))):
        raise OSError(refusal)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(PermissionError):  # a seccomp filter: then fewer are watched
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return refusal


def may_reclaim(cgroup: str) -> bool:
    """Return whether memory.reclaim of a cgroup may be written to."""
    try:
        reclaim(cgroup, 0)
    except OSError:
        return False
    return True


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
