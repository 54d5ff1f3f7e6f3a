"""Linux's external memory hinting: process_madvise(2) and pidfd_open(2)."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from pmadvise._sys import IOV_MAX, MAX_RW_COUNT, PAGE_SIZE
from pmadvise.advice import Advice
from pmadvise.calls import (
    PIDFD_NONBLOCK,
    PIDFD_THREAD,
    pidfd_open,
    process_madvise,
    process_madvise_range,
)
from pmadvise.engine import Report, Skip
from pmadvise.maps import AddressSpace, Vma
from pmadvise.process import Process
from pmadvise.ranges import Ranges
from pmadvise.residency import Memory

if _TYPE_CHECKING:
    from pmadvise._support import Support as Support
    from pmadvise._support import support as support
    from pmadvise.hold import Hold as Hold

__all__ = [
    "IOV_MAX",
    "MAX_RW_COUNT",
    "PAGE_SIZE",
    "PIDFD_NONBLOCK",
    "PIDFD_THREAD",
    "AddressSpace",
    "Advice",
    "Hold",
    "Memory",
    "Process",
    "Ranges",
    "Report",
    "Skip",
    "Support",
    "Vma",
    "pidfd_open",
    "process_madvise",
    "process_madvise_range",
    "support",
]


def __getattr__(name: str) -> object:
    """Load on first use what a daemon's loop does not need."""
    if name == "Hold":
        from pmadvise.hold import Hold

        return Hold
    if name in ("Support", "support"):
        from pmadvise import _support

        return getattr(_support, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
