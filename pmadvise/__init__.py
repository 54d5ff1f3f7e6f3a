"""Linux's external memory hinting: process_madvise(2) and pidfd_open(2)."""

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

__all__ = [
    "IOV_MAX",
    "MAX_RW_COUNT",
    "PAGE_SIZE",
    "PIDFD_NONBLOCK",
    "PIDFD_THREAD",
    "AddressSpace",
    "Advice",
    "Memory",
    "Process",
    "Ranges",
    "Report",
    "Skip",
    "Vma",
    "pidfd_open",
    "process_madvise",
    "process_madvise_range",
]
