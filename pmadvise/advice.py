"""Advice: the constants of madvise(2), by the kernel's names."""

import enum
import os


class Advice(enum.IntEnum):
    """Every ``MADV_*`` of the kernel's UAPI: ``Advice.COLD`` is MADV_COLD.

    Four of them, those whose ``remote`` is True, can be given to another process.
    A process may give all of them to itself, by its own pidfd, since Linux 6.13.
    Source: madvise(2), include/uapi/asm-generic/mman-common.h of Linux 6.18.
    """

    NORMAL = 0
    RANDOM = 1
    SEQUENTIAL = 2
    WILLNEED = 3
    # Only arch/alpha/include/uapi/asm/mman.h has another number.
    DONTNEED = 6 if os.uname().machine == "alpha" else 4
    FREE = 8
    REMOVE = 9
    DONTFORK = 10
    DOFORK = 11
    MERGEABLE = 12
    UNMERGEABLE = 13
    HUGEPAGE = 14
    NOHUGEPAGE = 15
    DONTDUMP = 16
    DODUMP = 17
    WIPEONFORK = 18
    KEEPONFORK = 19
    COLD = 20
    PAGEOUT = 21
    POPULATE_READ = 22
    POPULATE_WRITE = 23
    DONTNEED_LOCKED = 24
    COLLAPSE = 25
    HWPOISON = 100
    SOFT_OFFLINE = 101
    GUARD_INSTALL = 102
    GUARD_REMOVE = 103

    @property
    def remote(self) -> bool:
        """Return whether it can be given to another process.

        Source: process_madvise_remote_valid() in mm/madvise.c of the newest tree;
        ``check()`` and ``support()`` ask the running kernel.
        """
        return self in REMOTE

    @property
    def destructive(self) -> bool:
        """Return whether it can destroy the contents of memory."""
        return self in _DESTRUCTIVE


REMOTE = {
    Advice.COLD: "5.10",
    Advice.PAGEOUT: "5.10",
    Advice.WILLNEED: "5.15",
    Advice.COLLAPSE: "6.1",
}
"""The advices for another process, each with its first Linux release."""
_DESTRUCTIVE = frozenset(
    {
        Advice.DONTNEED,
        Advice.FREE,
        Advice.REMOVE,
        Advice.DONTNEED_LOCKED,
        Advice.HWPOISON,
        Advice.GUARD_INSTALL,
    }
)


def known(advice: int) -> Advice | int:
    """Return the Advice of a number, or the number if there is none."""
    try:
        return Advice(advice)
    except ValueError:
        return advice


def advice_name(advice: int) -> str:
    """Return the kernel's name of `advice`, or the number if it has none."""
    constant = known(advice)
    return f"MADV_{constant.name}" if isinstance(constant, Advice) else str(constant)


def not_remote(advice: int) -> ValueError:
    """Return the error for an advice that can't be given to another process."""
    *names, last = (remote.name for remote in REMOTE)
    return ValueError(
        f"advice {advice_name(advice)} is not for another process: "
        f"{', '.join(names)} and {last} are"
    )
