"""File descriptors of a test: how many of them are free."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def only_descriptors(n_free: int) -> Iterator[None]:
    """Let only so many file descriptors be free."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(64)]
    first_free = taken[-1] + 1
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + n_free, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)
