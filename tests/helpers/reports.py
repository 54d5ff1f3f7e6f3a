"""Questions to a Report."""

from __future__ import annotations

from pmadvise import Ranges, Report


def skips(report: Report) -> list[tuple[int, int, int]]:
    """Return address, length and errno of each Skip."""
    return [(skip.address, skip.length, skip.errno) for skip in report.skipped]


def skipped_by_errno(report: Report) -> dict[int, Ranges]:
    """Return the ranges that were skipped, merged, by errno."""
    return {
        number: Ranges(
            (skip.address, skip.length)
            for skip in report.skipped
            if skip.errno == number
        ).merged()
        for number in {skip.errno for skip in report.skipped}
    }
