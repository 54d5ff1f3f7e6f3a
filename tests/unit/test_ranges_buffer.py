"""Ranges from buffers and as buffers; needs no kernel feature."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable

import numpy as np
import pytest
from helpers.range_strategies import TOP

from pmadvise import Ranges

SWAPPED = ">u8" if sys.byteorder == "little" else "<u8"


@pytest.mark.parametrize(
    "make",
    [
        lambda words: array("Q", words),
        lambda words: array("L", words),
        lambda words: np.array(words, "u8").reshape(-1, 2),
        lambda words: Ranges([(1, 2), (3, 4)]).buffer,
    ],
    ids=["array-Q", "array-L", "numpy", "buffer"],
)
def test_from_buffer(make: Callable[[list[int]], object]) -> None:
    """Native uint64 pairs, flat or of shape (n, 2), become ranges."""
    assert Ranges.from_buffer(make([1, 2, 3, 4])) == Ranges([(1, 2), (3, 4)])


@pytest.mark.parametrize(
    ("buffer", "error", "words"),
    [
        (b"12345678" * 2, TypeError, "format 'B'"),
        (array("d", [1, 2]), TypeError, "format 'd'"),
        (array("q", [1, 2]), TypeError, "format 'q'"),
        (array("I", [1, 2]), TypeError, "format 'I'"),
        (
            np.array([[1, 2]], SWAPPED),
            TypeError,
            "format",
        ),
        ([1, 2], TypeError, "not list"),
        (None, TypeError, "not NoneType"),
        (array("Q", [1, 2, 3]), ValueError, r"shape \(3,\)"),
        (np.zeros((2, 3), "u8"), ValueError, r"shape \(2, 3\)"),
        (np.zeros((2, 2, 2), "u8"), ValueError, r"shape \(2, 2, 2\)"),
        (np.uint64(7), ValueError, r"shape \(\)"),
        (np.zeros((4, 4), "u8")[:, :2], ValueError, "contiguous"),
        (np.zeros((2, 2), "u8", order="F"), ValueError, "contiguous"),
        (array("Q", [0, 1, TOP - 1, 2]), ValueError, r"ranges\[1\]"),
    ],
)
def test_from_buffer_refuses(
    buffer: object, error: type[Exception], words: str
) -> None:
    """A buffer of anything but native uint64 pairs is refused, saying what it is."""
    with pytest.raises(error, match=words):
        Ranges.from_buffer(buffer)


def test_from_buffer_copies() -> None:
    """Ranges do not change with the buffer they were made of."""
    words = array("Q", [1, 2])
    ranges = Ranges.from_buffer(words)
    words[0] = 9
    words.append(1)
    assert ranges == Ranges([(1, 2)])


def test_buffer_is_read_only_and_outlives() -> None:
    """The buffer is a read-only view that keeps its memory."""
    view = Ranges([(1, 2), (3, 4)]).buffer
    assert view.readonly
    assert np.asarray(view).tolist() == [[1, 2], [3, 4]]
