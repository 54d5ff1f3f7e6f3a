"""Namespaces of the calling process, entered for good: to be used in a child."""

from __future__ import annotations

import ctypes

_CLONE_NEWNS, _CLONE_NEWPID = 0x20000, 0x20000000
_MS_REC_PRIVATE = 0x44000


def _checked(result: int) -> None:
    assert result == 0, f"errno {ctypes.get_errno()}"


def mount_proc(options: str) -> None:
    """Mount a /proc that only the calling process sees, with options."""
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.unshare(_CLONE_NEWNS))
    _checked(libc.mount(b"", b"/", b"", _MS_REC_PRIVATE, None))
    _checked(libc.mount(b"proc", b"/proc", b"proc", 0, options.encode()))


def unshare_pids() -> None:
    """Let the next fork be the first process of a new pid namespace."""
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWPID))
