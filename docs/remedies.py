"""Remedies that several messages share, as the messages have them."""

from __future__ import annotations

from pmadvise._reasons.answer import UNCONFINED, how_to_add, how_to_allow


def remedies() -> dict[str, str]:
    """Return them by what they are of."""
    return {
        "A capability": how_to_add("NAME"),
        "A filter that refuses process_madvise": how_to_allow("process_madvise"),
        "A filter that refuses another call": how_to_allow("CALL"),
        "A security module": UNCONFINED,
    }
