"""Grid: memory as few regions of equal size."""

from __future__ import annotations

import heapq

from pmadvise._native.base import PAGE_SIZE
from pmadvise.ranges import Ranges


def grid(memory: Ranges, most: int) -> tuple[Ranges, int]:
    """Return regions that cover memory, and the size of nearly all of them.

    Where it has more ranges than half of `most`, the closest neighbours are joined.

    Args:
        memory: Merged, page-aligned.
        most: Of the regions.

    Returns:
        No more than `most` regions, by address; a multiple of the page size, in bytes.
    """
    spans = _joined(memory, most // 2)
    pages = spans.total // PAGE_SIZE
    size = max(-(-pages // (most - most // 2)), 1) * PAGE_SIZE
    return spans.split(size), size


def _joined(memory: Ranges, most: int) -> Ranges:
    """Join ranges over the smallest gaps, until there are no more than `most`."""
    if len(memory) <= most:
        return memory
    pairs = list(memory)
    starts = [start for start, _ in pairs]
    ends = [start + length for start, length in pairs]
    gaps = [
        (start - end, start, end) for start, end in zip(starts[1:], ends, strict=False)
    ]
    kept = sorted(heapq.nlargest(most - 1, gaps), key=lambda gap: gap[1])
    firsts = [starts[0], *(start for _, start, _ in kept)]
    lasts = [*(end for _, _, end in kept), ends[-1]]
    return Ranges((a, b - a) for a, b in zip(firsts, lasts, strict=True))
