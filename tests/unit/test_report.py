"""Report and Skip as values."""

from __future__ import annotations

import errno
import json

from pmadvise import Advice, Remaining, Report, Skip

SKIP = Skip(4096, 8192, errno.ENOMEM, "not mapped")
REPORT = Report(
    advice=Advice.PAGEOUT,
    requested=20480,
    advised=4096,
    skipped=(SKIP,),
    calls=2,
    elapsed=0.5,
    longest_call=0.25,
    ended="budget",
    remaining=Remaining(resident=4096, shared=0),
)


def test_repr_of_a_skip() -> None:
    """A Skip shows its address in hex and its errno by name."""
    assert repr(SKIP) == "Skip(0x1000, 0x2000, ENOMEM: not mapped)"


def test_not_tried() -> None:
    """The bytes that were neither advised nor skipped were not tried."""
    assert REPORT.not_tried == 8192


def test_to_dict() -> None:
    """A Report is JSON, with the advice by its name."""
    assert json.loads(json.dumps(REPORT.to_dict())) == {
        "advice": "MADV_PAGEOUT",
        "requested": 20480,
        "advised": 4096,
        "skipped": [
            {"address": 4096, "length": 8192, "errno": 12, "reason": "not mapped"}
        ],
        "calls": 2,
        "elapsed": 0.5,
        "longest_call": 0.25,
        "ended": "budget",
        "before": None,
        "after": None,
        "remaining": {"resident": 4096, "shared": 0},
        "touched": 0,
        "not_tried": 8192,
    }
