"""Linux's external memory hinting: process_madvise(2) and pidfd_open(2)."""

import _thread

from pmadvise._arguments import HasFileno, PidfdLike
from pmadvise._native.base import IOV_MAX, MAX_RW_COUNT, PAGE_SIZE
from pmadvise.calls import (
    PIDFD_NONBLOCK,
    PIDFD_THREAD,
    pidfd_open,
    process_madvise,
    process_madvise_range,
)
from pmadvise.ranges import Ranges, RangesLike

TYPE_CHECKING = False  # importing typing takes longer than all the rest
if TYPE_CHECKING:
    from pmadvise._advise.keywords import AdviseOptions as AdviseOptions
    from pmadvise._advise.keywords import Cancel as Cancel
    from pmadvise._advise.keywords import EachOptions as EachOptions
    from pmadvise._reasons import Answer as Answer
    from pmadvise._support import Support as Support
    from pmadvise._support import TargetSupport as TargetSupport
    from pmadvise._support import support as support
    from pmadvise.advice import Advice as Advice
    from pmadvise.cgroup import CgroupMemory as CgroupMemory
    from pmadvise.cgroup import Reclaimed as Reclaimed
    from pmadvise.cgroup import reclaim as reclaim
    from pmadvise.group import advise_each as advise_each
    from pmadvise.group import processes as processes
    from pmadvise.hold import Hold as Hold
    from pmadvise.idle import Tracker as Tracker
    from pmadvise.maps import AddressSpace as AddressSpace
    from pmadvise.maps import Vma as Vma
    from pmadvise.memory import Memory as Memory
    from pmadvise.memory import Swap as Swap
    from pmadvise.memory import SwapTier as SwapTier
    from pmadvise.memory import WorkingSet as WorkingSet
    from pmadvise.memory import swap as swap
    from pmadvise.pressure import Pressure as Pressure
    from pmadvise.process import Process as Process
    from pmadvise.report import Remaining as Remaining
    from pmadvise.report import Report as Report
    from pmadvise.report import Skip as Skip
    from pmadvise.status import Status as Status

__all__ = [
    "IOV_MAX",
    "MAX_RW_COUNT",
    "PAGE_SIZE",
    "PIDFD_NONBLOCK",
    "PIDFD_THREAD",
    "AddressSpace",
    "Advice",
    "AdviseOptions",
    "Answer",
    "Cancel",
    "CgroupMemory",
    "EachOptions",
    "HasFileno",
    "Hold",
    "Memory",
    "PidfdLike",
    "Pressure",
    "Process",
    "Ranges",
    "RangesLike",
    "Reclaimed",
    "Remaining",
    "Report",
    "Skip",
    "Status",
    "Support",
    "Swap",
    "SwapTier",
    "TargetSupport",
    "Tracker",
    "Vma",
    "WorkingSet",
    "advise_each",
    "pidfd_open",
    "process_madvise",
    "process_madvise_range",
    "processes",
    "reclaim",
    "support",
    "swap",
]


# Loaded on first use, as each brings more with it than all the rest together: a daemon
# that makes only the two calls needs none of these, or Advice alone.
_LAZY = {
    "AddressSpace": "maps",
    "Advice": "advice",
    "AdviseOptions": "_advise.keywords",
    "Answer": "_reasons",
    "Cancel": "_advise.keywords",
    "CgroupMemory": "cgroup",
    "EachOptions": "_advise.keywords",
    "Hold": "hold",
    "Memory": "memory",
    "Pressure": "pressure",
    "Process": "process",
    "Reclaimed": "cgroup",
    "Remaining": "report",
    "Report": "report",
    "Skip": "report",
    "Status": "status",
    "Support": "_support",
    "Swap": "memory",
    "SwapTier": "memory",
    "TargetSupport": "_support",
    "Tracker": "idle",
    "Vma": "maps",
    "WorkingSet": "memory",
    "advise_each": "group",
    "processes": "group",
    "reclaim": "cgroup",
    "support": "_support",
    "swap": "memory",
}


# One load at a time: dataclasses and typing are not safe while two threads import them.
_loading = _thread.RLock()


def __getattr__(name: str) -> object:
    """Load a name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only on first use

    with _loading:
        value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return __all__
