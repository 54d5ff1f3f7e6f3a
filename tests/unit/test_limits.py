"""The keywords of advise(), checked before anything is advised."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest

from pmadvise._advise.limits import Limits

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_stall": 0}, "max_stall 0"),
        ({"max_stall": -1.0}, r"max_stall -1\.0"),
        ({"max_stall": NAN}, "max_stall nan"),
        ({"max_stall": -INF}, "max_stall -inf"),
        ({"budget": -1}, "budget -1"),
        ({"budget": -(10**30)}, "budget -1000"),
        ({"timeout": -0.5}, r"timeout -0\.5"),
        ({"timeout": NAN}, "timeout nan"),
        ({"timeout": -INF}, "timeout -inf"),
    ],
)
def test_values_refused(limits: dict[str, Any], words: str) -> None:
    """A limit that can't be kept is a ValueError with its name and value."""
    with pytest.raises(ValueError, match=words):
        Limits(**limits)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_stall": "1"}, "max_stall '1'"),
        ({"max_stall": 1j}, "max_stall 1j"),
        ({"timeout": "1"}, "timeout '1'"),
        ({"timeout": [1]}, r"timeout \[1\]"),
        ({"budget": 5000.5}, r"budget 5000\.5"),
        ({"budget": 4096.0}, r"budget 4096\.0"),
        ({"budget": "1"}, "budget '1'"),
        ({"budget": NAN}, "budget nan"),
        ({"cancel": 1}, "cancel 1"),
        ({"cancel": object}, "cancel"),
        ({"on_progress": 1}, "on_progress 1"),
        ({"wrong": 1}, "wrong"),
    ],
)
def test_types_refused(limits: dict[str, Any], words: str) -> None:
    """A limit of another type is a TypeError with its name."""
    with pytest.raises(TypeError, match=words):
        Limits(**limits)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_stall": INF},
        {"max_stall": 1},
        {"max_stall": 1e-300},
        {"max_stall": 10**400},
        {"max_stall": None},
        {"timeout": INF},
        {"timeout": 0},
        {"timeout": 10**400},
        {"budget": 0},
        {"budget": 10**30},
        {"budget": np.uint64(4096)},
        {"cancel": threading.Event()},
    ],
    ids=" ".join,
)
def test_values_taken(limits: dict[str, Any]) -> None:
    """The largest and the smallest values that make sense are taken."""
    ((name, value),) = limits.items()
    if value == 10**400:
        value = INF  # no float is so large
    assert getattr(Limits(**limits), name) == value


def test_budget_is_an_int() -> None:
    """What is only an index is counted with as an int."""

    class Index:
        def __index__(self) -> int:
            return 1 << 20

    assert Limits(budget=Index()).budget == 1 << 20  # type: ignore[arg-type]
