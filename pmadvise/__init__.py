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
from pmadvise.ranges import Ranges

if _TYPE_CHECKING:
    from pmadvise._support import Support as Support
    from pmadvise._support import support as support
    from pmadvise.engine import Report as Report
    from pmadvise.engine import Skip as Skip
    from pmadvise.hold import Hold as Hold
    from pmadvise.maps import AddressSpace as AddressSpace
    from pmadvise.maps import Vma as Vma
    from pmadvise.process import Process as Process
    from pmadvise.residency import Memory as Memory

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


# Loaded on first use, as dataclasses cost more to import than all the rest together,
# and a daemon that makes the two calls alone needs none of these.
_LAZY = {
    "AddressSpace": "maps",
    "Hold": "hold",
    "Memory": "residency",
    "Process": "process",
    "Report": "engine",
    "Skip": "engine",
    "Support": "_support",
    "Vma": "maps",
    "support": "_support",
}


def __getattr__(name: str) -> object:
    """Load a name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return __all__
