"""What an advise() would do, without doing it: --dry-run."""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from pmadvise import _reasons
from pmadvise._advise.budget import Budget
from pmadvise._advise.profiles import Profile, Source, profile_of
from pmadvise._handle.identity import Identity
from pmadvise._handle.mm import Mm, open_mm
from pmadvise._handle.smaps import mappings_with, no_check
from pmadvise.advice import Advice
from pmadvise.maps import AddressSpace
from pmadvise.process import Process
from pmadvise.ranges import Ranges
from pmadvise.report import Ended, Report, Skip
from pmadvise.residency import Pagemap
from pmadvise.status import read_status

# can_madv_lru_vma() of mm/madvise.c: VM_LOCKED, VM_PFNMAP, VM_HUGETLB
_REFUSED_FLAGS = frozenset({b"lo", b"pf", b"ht"})


class _Piece(NamedTuple):
    """A part of the ranges that the kernel takes, or refuses with an errno."""

    address: int
    length: int
    errno: int


def forecast(
    process: Process, advice: Advice, ranges: Ranges | None, budget: int | None
) -> Report:
    """Return the Report of an advise() as far as it is known beforehand.

    COLLAPSE may be refused for reasons that show only when it is tried.

    Args:
        process: The target.
        advice: One for another process.
        ranges: To be asked as given; None: the default selection.
        budget: Bytes, as Process.advise() takes it.

    Raises:
        OSError: The refusal of the whole, as Process.advise().
    """
    began = time.monotonic()
    with closing(Identity.of_pidfd(process)) as identity:
        mm = open_mm(identity)
        process.check(advice)
        before = read_status(identity)
        profile = profile_of(advice)
        space = AddressSpace(mm)
        pagemap = _pagemap_of(mm, needed=budget is not None)
        try:
            if ranges is None:
                assert profile.select is not None
                ranges = profile.select(Source(space, mm, pagemap, no_check))
            refused = Ranges()
            if advice in (Advice.COLD, Advice.PAGEOUT):
                refused = _refused(identity, ranges.merged())
            advised, skipped, ended = _walk(
                _pieces(ranges, space, refused), profile, pagemap, budget
            )
        finally:
            if pagemap is not None:
                pagemap.close()
    return Report(
        advice,
        ranges.total,
        advised,
        tuple(skipped),
        calls=0,
        elapsed=time.monotonic() - began,
        longest_call=0.0,
        ended=ended,
        before=before,
    )


def _pagemap_of(mm: Mm, needed: bool) -> Pagemap | None:
    try:
        return Pagemap(mm)
    except PermissionError:
        if needed:
            raise
        return None


def _refused(identity: Identity, within: Ranges) -> Ranges:
    """Return the mappings that are locked, of huge pages of their own, or a device's.

    The flags in smaps tell; to read it takes the lock of the target.
    """
    if not len(within):
        return within

    def refuses(line: bytes) -> bool:
        return line.startswith(b"VmFlags:") and bool(
            _REFUSED_FLAGS & set(line.split()[1:])
        )

    return within & Ranges(mappings_with(identity.read("smaps"), refuses))


def _pieces(ranges: Ranges, space: AddressSpace, refused: Ranges) -> Iterator[_Piece]:
    """Cut ranges, in their order, into what is taken and what is refused."""
    mapped = space.select()
    outside = space.select(path="[vsyscall]")
    parts = [ranges] if ranges == ranges.merged() else [Ranges([r]) for r in ranges]
    for part in parts:
        taken = (part & mapped) - refused - outside
        pieces = [
            *(_Piece(*one, 0) for one in taken),
            *(_Piece(*one, errno.EINVAL) for one in part & refused),
            *(_Piece(*one, errno.EFAULT) for one in part & outside),
            *(_Piece(*one, errno.ENOMEM) for one in part - mapped),
        ]
        yield from sorted(pieces)


def _walk(
    pieces: Iterator[_Piece],
    profile: Profile,
    pagemap: Pagemap | None,
    budget: int | None,
) -> tuple[int, list[Skip], Ended]:
    """Return the bytes taken, the skips, and how the work ends, in order."""
    left = None
    if budget is not None:
        assert pagemap is not None
        left = Budget(
            budget,
            functools.partial(_counted, profile, pagemap),
            profile.whole_elements,
        )
    advised = 0
    skipped: list[Skip] = []
    for address, length, number in pieces:
        if left is not None and left.is_used_up:
            return advised, skipped, "budget"
        if number:
            reason = _reasons.of_range(profile.advice, number)
            skipped.append(Skip(address, length, number, reason))
            continue
        if left is None:
            advised += length
            continue
        one = Ranges([(address, length)])
        if profile.whole_elements:
            one = one.split(profile.max_element())
        n_ranges, last_length, counted, is_cut = left.fit(one)
        taken = one[:n_ranges].total
        if last_length is not None:
            taken += last_length - one[n_ranges - 1][1]
        left.use(one, counted, taken)
        advised += taken
        if is_cut:
            return advised, skipped, "budget"
    return advised, skipped, "complete"


def _counted(profile: Profile, pagemap: Pagemap, ranges: Ranges) -> Ranges:
    """Return the parts of ranges that a budget counts."""
    resident = pagemap.resident(ranges)
    return resident if profile.budget_counts_resident else ranges - resident
