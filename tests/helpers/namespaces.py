"""Namespaces of the calling process, entered for good: to be used in a child.

Where the host refuses one, each function raises Lacking, by which in_child() skips.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers.children import Lacking

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
_CLONE_NEWCGROUP = 0x02000000
_MS_REC_PRIVATE, _IN_OPEN = 0x44000, 0x20
_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 0x1, 0x20, 0x1000


def _checked(result: int) -> None:
    if result != 0:
        raise Lacking(
            f"mount(2) or unshare(2) is refused ({os.strerror(ctypes.get_errno())}): "
            "run the tests as root of the host, not in a chroot or a container"
        )


def _private_mounts() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.unshare(_CLONE_NEWNS))
    _checked(libc.mount(b"", b"/", b"", _MS_REC_PRIVATE, None))
    return libc


def watch_opens(pid: int, *names: str) -> Callable[[], set[str]]:
    """Put files of the test over these files of /proc/PID, and watch them.

    A directory /proc/PID that is open already does not have them.

    Returns:
        A function that returns the names of those that were opened so far.
    """
    libc = _private_mounts()
    events = libc.inotify_init1(os.O_NONBLOCK)
    watches = {}
    for name in names:
        fd, path = tempfile.mkstemp()
        os.close(fd)
        watch = libc.inotify_add_watch(events, path.encode(), _IN_OPEN)
        watches[watch] = name
        above = f"/proc/{pid}/{name}".encode()
        _checked(libc.mount(path.encode(), above, None, _MS_BIND, None))
        os.unlink(path)

    def opened() -> set[str]:
        found = set()
        with contextlib.suppress(BlockingIOError):
            while octets := os.read(events, 1 << 16):
                # struct inotify_event, of a file: without a name
                for watch, mask, _, _ in struct.iter_unpack("iIII", octets):
                    if mask & _IN_OPEN:
                        found.add(watches[watch])
        return found

    return opened


def mount_proc(options: str) -> None:
    """Mount a /proc that only the calling process sees, with options."""
    libc = _private_mounts()
    _checked(libc.mount(b"proc", b"/proc", b"proc", 0, options.encode()))


def mount_proc_at(directory: Path) -> None:
    """Mount another /proc, that only the calling process sees, on a directory."""
    libc = _private_mounts()
    _checked(libc.mount(b"proc", bytes(directory), b"proc", 0, None))


def bind_alone(source: Path, target: Path) -> None:
    """Put a directory over another that only the calling process sees there."""
    libc = _private_mounts()
    _checked(libc.mount(bytes(source), bytes(target), None, _MS_BIND, None))


def bind(source: str, target: Path) -> None:
    """Put a file over another, in mounts that are private already."""
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.mount(source.encode(), bytes(target), None, _MS_BIND, None))


def unshare_pids() -> None:
    """Let the next fork be the first process of a new pid namespace."""
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWPID))


def unshare_cgroups() -> None:
    """Let the present cgroup be the root of a new cgroup namespace."""
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWCGROUP))


def unshare_users() -> None:
    """Enter a user namespace in which this user is root."""
    user = os.geteuid()
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")


def mount_tmpfs(point: bytes) -> None:
    """Mount an empty file system that only the calling process sees."""
    libc = _private_mounts()
    _checked(libc.mount(b"tmpfs", point, b"tmpfs", 0, None))


def mount_over(point: Path, *, read_only: bool) -> None:
    """Mount a directory over itself, for the calling process alone."""
    libc = _private_mounts()
    path = os.fsencode(point)
    _checked(libc.mount(path, path, None, _MS_BIND, None))
    if read_only:
        flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY
        _checked(libc.mount(None, path, None, flags, None))


def cover(path: str, by: str) -> None:
    """Let a file be covered by another, for the calling process alone."""
    libc = _private_mounts()
    _checked(libc.mount(by.encode(), path.encode(), None, _MS_BIND, None))


def unmount_proc() -> None:
    """Let there be no /proc for the calling process alone."""
    libc = _private_mounts()
    _checked(libc.umount2(b"/proc", 2))  # MNT_DETACH
