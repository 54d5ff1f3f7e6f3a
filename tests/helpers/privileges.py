"""Rights of the calling thread, given up for good: to be used in a child."""

from __future__ import annotations

import ctypes
import os
import struct

from helpers.forks import load_names

NOBODY = 65534
"""The user ID of nobody."""

# include/uapi/linux/capability.h
CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 2, 19, 21
CAP_SYS_NICE, CAP_PERFMON = 23, 38

_VERSION_3 = 0x20080522
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 4, 8, 24


def drop_capabilities(*capabilities: int) -> None:
    """Take capabilities from the calling thread. Wraps capset(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", _VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    assert libc.capget(header, data) == 0
    words = list(struct.unpack("6I", data.raw))
    for capability in capabilities:
        for word in range(3):
            words[3 * (capability // 32) + word] &= ~(1 << capability % 32)
    assert libc.capset(header, struct.pack("6I", *words)) == 0


def never_gain(*capabilities: int) -> None:
    """Let no exec give these capabilities to the calling thread, even if it is root."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in capabilities:
        assert libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


def become_nobody(user: int = NOBODY) -> None:
    """Give up root, and every capability with it, for nobody or who has no name.

    What `pmadvise` loads late is loaded before: nobody may not be able to read it.
    """
    load_names()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def become_nobody_with(*capabilities: int, user: int = NOBODY) -> None:
    """Give up root, but for these capabilities: as a daemon of systemd has them."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
    become_nobody(user)
    mask = sum(1 << capability for capability in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    words = low, low, 0, high, high, 0  # effective, permitted, inheritable
    header = struct.pack("Ii", _VERSION_3, 0)
    assert libc.capset(header, struct.pack("6I", *words)) == 0
    assert libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0  # so that /proc/self is ours
