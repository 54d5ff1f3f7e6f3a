"""Vectors and single ranges: sizes, partial results, bad values."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from helpers.targets import LRU_BATCH, MIB, PAGE, Target

from pmadvise import (
    IOV_MAX,
    MAX_RW_COUNT,
    Advice,
    Ranges,
    process_madvise,
    process_madvise_range,
)

root = pytest.mark.needs_root


class Owner:
    """An object that owns a pidfd."""

    def __init__(self, pidfd: int) -> None:
        self.pidfd = pidfd

    def fileno(self) -> int:
        return self.pidfd


@root
def test_vector_of_1024(target: Target) -> None:
    """1,024 ranges go in one call, from a generator too."""
    address = target.filled(2 * IOV_MAX * PAGE)
    pairs = ((address + 2 * i * PAGE, PAGE) for i in range(IOV_MAX))
    assert process_madvise(target.pidfd, pairs, Advice.COLD) == IOV_MAX * PAGE
    assert 0 <= target.smaps(address, "Referenced") - IOV_MAX * PAGE <= LRU_BATCH


@pytest.mark.parametrize("make", [list, iter, Ranges])
def test_vector_of_1025(target: Target, make: Any) -> None:
    """1,025 ranges are refused with the index, before the kernel is asked."""
    with pytest.raises(ValueError, match=r"ranges\[1024\]: .* 1024, .* are 1025"):
        process_madvise(target.pidfd, make([(0, PAGE)] * 1025), Advice.COLD)


@pytest.mark.parametrize(
    ("pairs", "index"),
    [
        ([(0, 3 << 30)], 0),
        ([(0, MAX_RW_COUNT + 1)], 0),
        ([(0, 1 << 30), (1 << 30, 1 << 30)], 1),
        ([(0, MAX_RW_COUNT), (0, 0), (0, 1)], 2),
        ([(0, (1 << 63) + PAGE)], 0),
    ],
)
def test_more_than_a_call_takes(pairs: list[tuple[int, int]], index: int) -> None:
    """Bytes that the kernel would silently ignore are refused, with the index."""
    with pytest.raises(ValueError, match=rf"ranges\[{index}\]: .*MAX_RW_COUNT"):
        process_madvise(-1, pairs, Advice.COLD)


def test_3_gib_in_one_range() -> None:
    """The one-range form refuses bytes that would be ignored, too."""
    with pytest.raises(ValueError, match=r"0xc0000000.*MAX_RW_COUNT"):
        process_madvise_range(-1, 0, 3 << 30, Advice.COLD)


@root
def test_as_much_as_a_call_takes(target: Target) -> None:
    """MAX_RW_COUNT bytes are advised whole."""
    address = target.reserved(MAX_RW_COUNT)
    advised = process_madvise_range(target.pidfd, address, MAX_RW_COUNT, Advice.COLD)
    assert advised == MAX_RW_COUNT


@root
def test_partial_vector(target: Target) -> None:
    """[good, bad, good] returns the bytes of the first alone."""
    address = target.filled(8 * PAGE)
    target.run(f"unmap({address + 2 * PAGE}, {PAGE})")
    good, bad = (address, 2 * PAGE), (address + 2 * PAGE, PAGE)
    later = (address + 3 * PAGE, PAGE)
    vector = [good, bad, later]
    assert process_madvise(target.pidfd, vector, Advice.COLD) == 2 * PAGE
    with pytest.raises(OSError, match="not mapped") as caught:
        process_madvise(target.pidfd, [bad, good], Advice.COLD)
    assert caught.value.errno == errno.ENOMEM


@root
def test_hole_in_a_range(target: Target) -> None:
    """A hole is ENOMEM, after the mapped parts of the range were advised."""
    address = target.filled(4 * MIB)
    target.run(f"unmap({address + MIB}, {PAGE})")
    with pytest.raises(OSError, match="its mapped parts were advised") as caught:
        process_madvise_range(target.pidfd, address, 4 * MIB, Advice.COLD)
    assert caught.value.errno == errno.ENOMEM
    assert target.smaps(address, "Referenced") <= LRU_BATCH
    assert target.smaps(address + MIB + PAGE, "Referenced") <= LRU_BATCH


@root
def test_locked_mapping(target: Target) -> None:
    """A locked mapping is EINVAL, and the message does not blame the advice."""
    address = target.filled(4 * PAGE)
    target.run(f"lock({address}, {4 * PAGE})")
    with pytest.raises(OSError, match="locked") as caught:
        process_madvise_range(target.pidfd, address, PAGE, Advice.PAGEOUT)
    assert caught.value.errno == errno.EINVAL


@root
def test_kernel_address(target: Target) -> None:
    """An address of the kernel is EFAULT or ENOMEM, never advised."""
    top = (1 << 64) - 2 * PAGE
    with pytest.raises(OSError, match="MADV_COLD") as caught:
        process_madvise_range(target.pidfd, top, PAGE, Advice.COLD)
    assert caught.value.errno in (errno.EFAULT, errno.EINVAL, errno.ENOMEM)


@root
def test_empty_vector_is_a_probe(target: Target) -> None:
    """No ranges: the kernel checks all but the ranges, and advises nothing."""
    assert process_madvise(target.pidfd, [], Advice.PAGEOUT) == 0


@root
def test_empty_range(target: Target) -> None:
    """A range of no bytes advises none."""
    assert process_madvise_range(target.pidfd, target.filled(PAGE), 0, Advice.COLD) == 0


@root
def test_length_counts_as_given(target: Target) -> None:
    """A length that is no multiple of a page is counted as it was given."""
    address = target.filled(4 * MIB)
    length = 2 * MIB + 1
    assert process_madvise_range(target.pidfd, address, length, Advice.COLD) == length
    assert target.smaps(address, "Referenced") <= 2 * MIB - PAGE + LRU_BATCH


@pytest.mark.parametrize("position", [0, 1, 1023])
def test_unaligned_address(position: int) -> None:
    """An address that is not page-aligned is refused with index and value."""
    pairs = [(0, PAGE)] * 1024
    pairs[position] = (PAGE + 8, PAGE)
    with pytest.raises(ValueError, match=rf"ranges\[{position}\]: .*{PAGE + 8:#x}"):
        process_madvise(-1, pairs, Advice.COLD)


@pytest.mark.parametrize(
    ("address", "length", "error", "words"),
    [
        (-PAGE, PAGE, ValueError, "address -"),
        (0, -1, ValueError, "length -1"),
        ((1 << 64) - PAGE, 2 * PAGE, ValueError, "past the end"),
        (1 << 64, PAGE, ValueError, "past the end"),
        (PAGE + 1, PAGE, ValueError, "page size"),
        (PAGE + 1, 0, ValueError, "page size"),
        ((1 << 64) - PAGE, PAGE + 1, ValueError, "past the end"),
        (0, MAX_RW_COUNT + 1, ValueError, "at most MAX_RW_COUNT"),
        (0.0, PAGE, TypeError, "address 0.0"),
        (0, "4096", TypeError, "length '4096'"),
        (None, PAGE, TypeError, "address None"),
    ],
)
@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("valid", [False, True])
def test_one_range_refused(
    address: Any,
    length: Any,
    error: type[Exception],
    words: str,
    flags: int,
    valid: bool,
    own_pidfd: int,
) -> None:
    """The one-range form makes the checks of the vector, of any pidfd."""
    pidfd = own_pidfd if valid else -1
    with pytest.raises(error, match=words):
        process_madvise_range(pidfd, address, length, Advice.COLD, flags)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            ("7", [], 20),
            TypeError,
            "pidfd must be an int or have fileno\\(\\), not '7'",
        ),
        ((None, [], 20), TypeError, "fileno.*None"),
        ((3.0, [], 20), TypeError, r"fileno.*3\.0"),
        ((1 << 40, [], 20), ValueError, "pidfd 1099511627776"),
        ((-1, None, 20), TypeError, "iterable"),
        ((-1, [], "cold"), TypeError, "advice 'cold'"),
        ((-1, [], 1 << 31), ValueError, "advice 2147483648"),
        ((-1, [], 20, "0"), TypeError, "flags '0'"),
        ((-1, [], 20, 1 << 33), ValueError, "flags 8589934592"),
        ((Owner("x"), [], 20), TypeError, "fileno"),  # type: ignore[arg-type]
    ],
)
def test_arguments_refused(arguments: Any, error: type[Exception], words: str) -> None:
    """A wrong argument is refused by name and value, without the kernel."""
    with pytest.raises(error, match=words):
        process_madvise(*arguments)


@root
@pytest.mark.parametrize("call", ["vector", "range"])
def test_pidfd_with_fileno(target: Target, call: str) -> None:
    """Anything with fileno() is a pidfd."""
    address, owner = target.filled(PAGE), Owner(target.pidfd)
    if call == "vector":
        advised = process_madvise(owner, [(address, PAGE)], Advice.COLD)
    else:
        advised = process_madvise_range(owner, address, PAGE, Advice.COLD)
    assert advised == PAGE
