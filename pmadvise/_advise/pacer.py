"""Pacer: the size of the next call, and the pause in which the target has its lock."""

from __future__ import annotations

from pmadvise._native.base import MAX_RW_COUNT, PAGE_SIZE

_STALL_SHARE = 8
"""A call is sized to take this part of max_stall."""
_CUT_ALIGNMENT = 512 << 10
_HANDOFF_PAUSE = 20e-6
_FIRST_RATE = 512 << 20
_LONGEST_BURST = 0.010
"""Seconds for which calls may follow each other with no look at the caller's wishes."""
_UNBOUNDED = 86_400
"""Seconds: a longer stall is no bound for a call of MAX_RW_COUNT bytes."""


class Pacer:
    """Size calls so that none holds the target's mmap lock longer than `max_stall`.

    Chosen by measurement (benchmarks/stall.py): calls end on 512 KiB boundaries,
    because an unaligned end costs a TLB shootdown per page; each is sized to take an
    eighth of max_stall at the rate of the previous call; and the caller is to sleep
    briefly before the kernel would hand the lock over (readers can keep it from a
    waiting writer for 4 ms). Sparse memory is fast; the rate is capped so that it does
    not oversize the next call.

    Args:
        max_stall: Seconds; None or more than a day: calls as large as the kernel takes.
        max_rate: Bytes a second that dense memory allows.
        max_element: Bytes of an element at the most: cuts are aligned to it if it is
            smaller than a call.
        huge_page: Bytes of a huge page; calls that are longer end on its boundary.
    """

    def __init__(
        self,
        max_stall: float | None,
        max_rate: float,
        max_element: int = MAX_RW_COUNT,
        huge_page: int = _CUT_ALIGNMENT,
    ) -> None:
        unbounded = max_stall is None or max_stall > _UNBOUNDED
        self._max_stall = 0.0 if max_stall is None or unbounded else float(max_stall)
        self._goal_seconds = self._max_stall / _STALL_SHARE
        self._unbounded = unbounded
        self._max_rate, self._max_element = max_rate, max_element
        self._huge_page = huge_page
        self._rate = self._least_rate = self._most_rate = float(_FIRST_RATE)
        self._size = self._compute_size()

    def size(self) -> tuple[int, int]:
        """Return the bytes to ask for next, and the alignment of the cut."""
        return self._size

    def _compute_size(self) -> tuple[int, int]:
        n_bytes = MAX_RW_COUNT
        if not self._unbounded:
            n_bytes = int(min(n_bytes, self._rate * self._goal_seconds))
            if n_bytes < _CUT_ALIGNMENT <= self._rate * self._max_stall / 2:
                n_bytes = _CUT_ALIGNMENT
        alignment = min(_CUT_ALIGNMENT, 1 << max(n_bytes, PAGE_SIZE).bit_length() - 1)
        if self._max_element < MAX_RW_COUNT:
            alignment = self._max_element
        elif n_bytes >= self._huge_page:
            alignment = self._huge_page
        size = max(n_bytes - n_bytes % alignment, alignment)
        self._least_rate = self._most_rate = self._rate
        if not self._unbounded and size >= _CUT_ALIGNMENT >= alignment:
            self._least_rate = size / self._goal_seconds
            self._most_rate = (size + alignment) / self._goal_seconds
            if size == _CUT_ALIGNMENT:
                self._least_rate = 2 * _CUT_ALIGNMENT / self._max_stall
        return size, alignment

    def observe(self, n_bytes: int, seconds: float) -> None:
        """Record a call's speed."""
        if self._unbounded:
            return
        rate = min(n_bytes / max(seconds, 1e-9), self._max_rate)
        if rate != self._rate and not self._least_rate <= rate < self._most_rate:
            self._rate = rate
            self._size = self._compute_size()

    def pause(self, locked: float) -> float:
        """Return the seconds to sleep before the next call: the target's turn.

        Args:
            locked: Seconds of calls since the target had its turn.
        """
        if self._unbounded or locked < 2 * self._goal_seconds:
            return 0.0
        return _HANDOFF_PAUSE

    def burst(self, left: float, sleeps: bool) -> tuple[int, int, int, int, int]:
        """Return how calls may follow one of size(), with nothing asked in between.

        Args:
            left: Seconds, at the most.
            sleeps: Whether they follow each other over a pause too.

        Returns:
            Nanoseconds, as Burst.set() takes them; all are 0 if none may follow.
        """
        if self._least_rate == self._most_rate:
            return 0, 0, 0, 0, 0
        nanoseconds = 1e9 * self._size[0]
        least = 0
        if self._most_rate <= self._max_rate:
            least = int(nanoseconds / self._most_rate) + 1
        room = max(min(left, _LONGEST_BURST), 0.0)
        return (
            least,
            int(nanoseconds / self._least_rate),
            int(1e9 * room),
            int(2e9 * self._goal_seconds),
            int(1e9 * _HANDOFF_PAUSE) if sleeps else 0,
        )
