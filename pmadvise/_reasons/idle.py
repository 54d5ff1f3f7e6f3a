"""Reasons of what can't be told of idle memory: its sources, and who is at them."""

from __future__ import annotations

import errno

from pmadvise._proc.files import read_or_none
from pmadvise._reasons.answer import Answer, how_to_add, refusal

_OTHERS = 'use source="mappings", which every kernel has'
_DAMON_MODULES = ("damon_stat", "damon_reclaim", "damon_lru_sort")


def tracked() -> Answer:
    """Return the answer if somebody else clears the accessed bits of a process."""
    return refusal(
        "busy",
        errno.EBUSY,
        "another Tracker or working_set() clears its accessed bits, here or in another "
        "process, and each would take from the other what was touched",
        "close that one, or wait for it",
    )


def no_page_idle(number: int) -> Answer:
    """Return the answer to an errno of the bitmap, or of /proc/kpageflags."""
    if number == errno.ENOENT:
        return refusal(
            "kernel",
            number,
            "the kernel was built without CONFIG_IDLE_PAGE_TRACKING, or /sys hides it",
            _OTHERS,
        )
    if number == errno.EPERM:
        reason = (
            "CAP_SYS_ADMIN in the initial user namespace is missing, and without it "
            "the kernel hides the frames of pages"
        )
        return refusal("capability", number, reason, how_to_add("SYS_ADMIN"))
    if number in (errno.EACCES, errno.EROFS):
        return refusal(
            "capability",
            number,
            "only root may use /sys/kernel/mm/page_idle/bitmap and /proc/kpageflags, "
            "and a container has /sys read-only",
            "run as root, in a container with --privileged",
        )
    return refusal("kernel", number, "idle page tracking does not work", _OTHERS)


def no_damon(number: int) -> Answer:
    """Return the answer to an errno of the sysfs interface of DAMON."""
    if number in (errno.ENOENT, errno.EOPNOTSUPP):
        return refusal(
            "kernel",
            number,
            "the kernel was built without DAMON for the memory of processes "
            "(CONFIG_DAMON_VADDR, CONFIG_DAMON_SYSFS), is older than 6.2, or /sys "
            "hides it",
            _OTHERS,
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return refusal(
            "capability",
            number,
            "only root may use /sys/kernel/mm/damon, and a container has /sys "
            "read-only",
            "run as root, in a container with --privileged",
        )
    if number == errno.EBUSY:
        return _damon_is_busy()
    return refusal("kernel", number, "DAMON does not work", _OTHERS)


def running_module() -> str | None:
    """Return the module of the kernel that uses DAMON; None if none is known to."""
    for module in _DAMON_MODULES:
        enabled = read_or_none(f"/sys/module/{module}/parameters/enabled") or b""
        if enabled.strip() in (b"Y", b"1"):
            return module
    return None


def _damon_is_busy() -> Answer:
    """Return the answer if DAMON is in use: the kernel runs one user's at a time."""
    module = running_module()
    if module is not None:
        return refusal(
            "busy",
            errno.EBUSY,
            f"{module.upper()} runs, and the kernel runs no other DAMON beside it",
            f"echo N > /sys/module/{module}/parameters/enabled",
        )
    return refusal(
        "busy",
        errno.EBUSY,
        "somebody else uses DAMON: damo, or a Tracker of another process",
        "end that; if nobody does any more: in /sys/kernel/mm/damon/admin/kdamonds "
        "write off to */state, and 0 to nr_kdamonds",
    )
