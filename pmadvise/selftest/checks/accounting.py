"""Checks of the account: of ranges that are refused, cut short or skipped."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pmadvise
from pmadvise import IOV_MAX, PAGE_SIZE, Advice, Process, Report
from pmadvise.selftest.child import Child
from pmadvise.selftest.requirements import (
    SMALL,
    TOLERANCE,
    Skip,
    mib,
    require_raises,
    require_whole,
    retry_until,
    summary,
)

_LARGE = 3 << 30


@summary("Provoke each error: a wrong call raises its own.")
def check_errors(_size: int) -> str:
    call, call_range = pmadvise.process_madvise, pmadvise.process_madvise_range
    with Child() as child:
        child.require_permission()
        fd, address = child.process.fileno(), child.map(4 * PAGE_SIZE)
        hole = address + 4 * PAGE_SIZE
        child.ask("unmap", hole, PAGE_SIZE)
        page = [(address, PAGE_SIZE)]
        cases: list[tuple[str, type[Exception], int, Callable[[], object]]] = [
            ("no pidfd", OSError, errno.EBADF, lambda: call(-1, page, Advice.COLD)),
            ("flags", OSError, errno.EINVAL, lambda: call(fd, page, Advice.COLD, 1)),
            (
                "DONTNEED for another process",
                OSError,
                errno.EINVAL,
                lambda: call(fd, page, Advice.DONTNEED),
            ),
            (
                "DONTNEED by Process",
                ValueError,
                0,
                lambda: child.process.advise(page, Advice.DONTNEED),
            ),
            (
                "unaligned",
                ValueError,
                0,
                lambda: call_range(fd, address + 1, 1, Advice.COLD),
            ),
            (
                "a hole",
                OSError,
                errno.ENOMEM,
                lambda: call_range(fd, hole, PAGE_SIZE, Advice.COLD),
            ),
            (
                "a negative length",
                ValueError,
                0,
                lambda: call(fd, [(address, -1)], Advice.COLD),
            ),
        ]
        for case in cases:
            require_raises(*case)
        advised = call(fd, page, Advice.COLD)
        if advised != PAGE_SIZE:
            raise AssertionError(f"{advised} of one page advised")
        child.kill()
        require_raises(
            "a zombie",
            ProcessLookupError,
            errno.ESRCH,
            lambda: call(fd, page, Advice.COLD),
        )
    return f"{len(cases) + 1} wrong calls, each with its own error"


@summary("Advise a vector with a hole: the call stops there, advise() goes on.")
def check_partial(_size: int) -> str:
    with Child() as child:
        child.require_permission()
        address = child.map(SMALL)
        quarter = SMALL // 4
        child.ask("unmap", address + quarter, quarter)
        parts = [
            (address, quarter),
            (address + quarter, quarter),
            (address + 2 * quarter, 2 * quarter),
        ]
        advised = pmadvise.process_madvise(child.process, parts, Advice.COLD)
        if advised != quarter:
            raise AssertionError(
                f"{advised} bytes advised before the hole, not {quarter}"
            )
        report = child.process.cold(parts)
        hole = (address + quarter, quarter, errno.ENOMEM)
        if (report.advised, _skips(report)) != (3 * quarter, [hole]):
            raise AssertionError(f"of {parts} the account is {report}")
    return "the call stops at a hole, advise() goes on and reports it"


@summary("Advise a range with a hole: it is skipped, the rest is advised.")
def check_hole(_size: int) -> str:
    with Child() as child:
        child.require_permission()
        address = child.map(SMALL)
        middle = address + SMALL // 2
        child.ask("unmap", middle, PAGE_SIZE)
        settled = retry_until(
            lambda: _require_skipped(
                child.process, address, SMALL, [(middle, PAGE_SIZE, errno.ENOMEM)]
            ),
            lambda: child.smaps(address, SMALL, "Referenced") <= TOLERANCE,
        )
        if not settled:
            left = child.smaps(address, SMALL, "Referenced")
            raise AssertionError(f"around the hole {left} of {SMALL} stay Referenced")
    return f"1 page of {mib(SMALL)} skipped with ENOMEM, the rest advised"


def _require_skipped(
    process: Process, address: int, size: int, expected: list[tuple[int, int, int]]
) -> None:
    report = process.cold([(address, size)])
    left = size - sum(length for _, length, _ in expected)
    if (_skips(report), report.advised, report.ended) != (expected, left, "complete"):
        raise AssertionError(f"{expected} should be skipped: {report}")


def _skips(report: Report) -> list[tuple[int, int, int]]:
    return [(skip.address, skip.length, skip.errno) for skip in report.skipped]


@summary("Advise locked memory: it is skipped, in a default selection too.")
def check_locked(_size: int) -> str:
    with Child() as child:
        child.require_permission()
        address = child.map(SMALL)
        locked = child.map(PAGE_SIZE)
        try:
            child.ask("lock", locked, PAGE_SIZE)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.EPERM, errno.EAGAIN):
                raise
            raise Skip(
                f"mlock(2): {error.strerror}: raise RLIMIT_MEMLOCK (ulimit -l)"
            ) from None
        _require_skipped(
            child.process, locked, PAGE_SIZE, [(locked, PAGE_SIZE, errno.EINVAL)]
        )
        reports: list[Report] = []
        settled = retry_until(
            lambda: reports.append(child.process.cold()),
            lambda: child.smaps(address, SMALL, "Referenced") <= TOLERANCE,
        )
        report = reports[-1]
        expected = [(locked, PAGE_SIZE, errno.EINVAL)]
        if not settled or _skips(report) != expected or report.advised < SMALL:
            raise AssertionError(f"without ranges the account is {report}")
    return "a locked page is skipped with EINVAL, by default too"


@summary("Advise 1,025 ranges: too many for a call, but not for advise().")
def check_ranges(_size: int) -> str:
    with Child() as child:
        child.require_permission()
        first = child.map(PAGE_SIZE)
        address = child.map(SMALL)
        # The effect is observed in the last one.
        pairs = [*[(first, PAGE_SIZE)] * IOV_MAX, (address, SMALL)]
        require_raises(
            f"{len(pairs)} ranges",
            ValueError,
            0,
            lambda: pmadvise.process_madvise(child.process, pairs, Advice.COLD),
        )
        settled = retry_until(
            lambda: require_whole(
                child.process.cold(pairs), IOV_MAX * PAGE_SIZE + SMALL
            ),
            lambda: child.smaps(address, SMALL, "Referenced") <= TOLERANCE,
        )
        if not settled:
            raise AssertionError(f"range {len(pairs)} was not advised")
    return f"{len(pairs)} ranges advised"


@summary("Advise more than 2 GiB: too much for a call, but not for advise().")
def check_large(_size: int) -> str:
    with Child() as child:
        child.require_permission()
        try:
            start = child.ask_int("reserve", _LARGE)
        except OSError as error:
            raise Skip(
                f"{mib(_LARGE)} of addresses can't be mapped ({error.strerror}): raise "
                "RLIMIT_AS (ulimit -v), or run a 64-bit Python"
            ) from None
        address = start + _LARGE - SMALL  # only the very end is filled
        child.fill(address, SMALL)
        require_raises(
            f"{_LARGE} bytes",
            ValueError,
            0,
            lambda: pmadvise.process_madvise_range(
                child.process, start, _LARGE, Advice.COLD
            ),
        )
        settled = retry_until(
            lambda: require_whole(child.process.cold([(start, _LARGE)]), _LARGE),
            lambda: child.smaps(address, SMALL, "Referenced") <= TOLERANCE,
        )
        if not settled:
            raise AssertionError("the end of the range was not advised")
    return f"{_LARGE >> 30} GiB in one range advised, to its end"
