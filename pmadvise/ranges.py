"""Ranges of addresses, in the layout of the kernel's ``struct iovec``."""

from __future__ import annotations

import operator
import struct

# What collections.abc is, which loads all of collections: a quarter of our import.
from _collections_abc import Iterable, Iterator, Sequence

from pmadvise._native.base import ADDRESS_MAX, PAGE_SIZE
from pmadvise._native.ranges import RangeArray

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, SupportsIndex, TypeAlias, overload

_SHOWN_IN_REPR = 4


class Ranges(Sequence[tuple[int, int]]):
    """An immutable sequence of (address, length), as a native ``struct iovec[]``.

    Filled and checked once, then passed to the kernel in place any number of times.
    Addresses and lengths are bytes; they need not be page-aligned here (the calls
    require that), may overlap, and keep their order. Equal and hashed by value; safe
    to use from several threads.

    Args:
        ranges: Pairs (address, length) of ints; consumed once.

    Raises:
        TypeError: An item is not a pair of ints; the message names its index.
        ValueError: An item of the wrong length, a negative value, or a range that
            ends past the end of the address space; the message names its index.
    """

    __slots__ = ("_array",)

    _array: RangeArray
    """Read by the rest of the package, never written to."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        if isinstance(ranges, Ranges):
            self._array = ranges._array
            return
        pairs = tuple(ranges)
        if not pairs:
            self._array = RangeArray.empty()
            return
        try:
            # Columns, for struct to convert at once: half the time of zip(*pairs).
            self._array = RangeArray.from_columns(
                [address for address, _ in pairs], [length for _, length in pairs]
            )
        except (TypeError, ValueError, struct.error):
            raise _first_invalid(pairs) from None
        if self._array.first_wrapping() != len(pairs):
            raise _first_invalid(pairs)

    @classmethod
    def _of_array(cls, array: RangeArray) -> Ranges:
        """Wrap a native array, which must not be written to afterwards."""
        self = object.__new__(cls)
        self._array = array
        return self

    @classmethod
    def from_buffer(cls, b: object) -> Ranges:
        """Copy native uint64 pairs: array('Q'), numpy of shape (n, 2), Ranges.buffer.

        Args:
            b: A C-contiguous buffer of unsigned 64-bit integers in native byte
                order: (n, 2) of them, or a flat even number, address first.

        Raises:
            TypeError: `b` is not a buffer, or has items of another type.
            ValueError: The buffer is not contiguous or has another shape, or a range
                ends past the end of the address space.
        """
        try:
            view = memoryview(b)  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(
                f"a buffer of uint64 pairs is needed, not {type(b).__name__}"
            ) from None
        with view:
            # struct's codes of native order: no prefix, "@", "=", or the host's "<" ">"
            code = view.format.lstrip("@=" + ("<" if _LITTLE_ENDIAN else ">"))
            if code not in ("Q", "L") or view.itemsize != _ITEM_SIZE:
                raise TypeError(
                    "the items of the buffer must be native unsigned "
                    f"{8 * _ITEM_SIZE}-bit integers, not of format {view.format!r}"
                )
            if not view.c_contiguous:
                raise ValueError("the buffer is not C-contiguous: copy it first")
            shape = view.shape or ()
            if shape[1:] != (2,) and (len(shape) != 1 or shape[0] % 2):
                raise ValueError(
                    f"the buffer has shape {shape}: (n, 2) is needed, "
                    "or one dimension of even length"
                )
            n = view.nbytes // (2 * _ITEM_SIZE)
            array = RangeArray.from_buffer(view, n)
        wrapping = array.first_wrapping()
        if wrapping != n:
            raise _past_the_end(wrapping, *array.get(wrapping))
        return cls._of_array(array)

    @property
    def buffer(self) -> memoryview:
        """The ranges without a copy: read-only, unsigned 64-bit, shape (n, 2).

        ``numpy.asarray(ranges.buffer)`` is an array of that shape. (Without ranges it
        is flat and empty: a memoryview can't have the shape (0, 2).)
        """
        octets, n = self._array.buffer(), len(self)
        return octets.cast(_ITEM, (n, 2)) if n else octets.cast(_ITEM)

    @property
    def total(self) -> int:
        """The sum of the lengths in bytes; overlaps count twice."""
        return self._array.total()

    def merged(self) -> Ranges:
        """Return the ranges sorted, joined where they overlap or touch, none empty."""
        return self._of_array(self._array.merge())

    def split(self, max_bytes: int) -> Ranges:
        """Return the ranges cut at page boundaries, none longer than `max_bytes`.

        Args:
            max_bytes: At least PAGE_SIZE.

        Raises:
            ValueError: `max_bytes` is less than a page.
        """
        max_bytes = operator.index(max_bytes)
        if max_bytes < PAGE_SIZE:
            raise ValueError(
                f"max_bytes is {max_bytes}: at least a page, {PAGE_SIZE}, is needed"
            )
        return self._of_array(self._array.split(min(max_bytes, ADDRESS_MAX), PAGE_SIZE))

    def __and__(self, other: Ranges) -> Ranges:
        """Return the addresses in both, merged."""
        if not isinstance(other, Ranges):
            return NotImplemented
        return self._of_array(self._array.merge().intersect(other._array.merge()))

    def __or__(self, other: Ranges) -> Ranges:
        """Return the addresses in either, merged."""
        if not isinstance(other, Ranges):
            return NotImplemented
        return self._of_array(self._array.merge(other._array))

    def __sub__(self, other: Ranges) -> Ranges:
        """Return the addresses in self and not in `other`, merged."""
        if not isinstance(other, Ranges):
            return NotImplemented
        return self._of_array(self._array.merge().subtract(other._array.merge()))

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self._array)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: SupportsIndex) -> tuple[int, int]: ...
        @overload
        def __getitem__(self, index: slice) -> Ranges: ...

    def __getitem__(self, index: SupportsIndex | slice) -> tuple[int, int] | Ranges:
        """Return one range as (address, length), or a slice as a Ranges."""
        n = len(self)
        if isinstance(index, slice):
            start, stop, step = index.indices(n)
            if step == 1:
                return self._of_array(self._array.copy(start, max(stop - start, 0)))
            return type(self)(self[i] for i in range(start, stop, step))
        position = operator.index(index)
        if position < 0:
            position += n
        if not 0 <= position < n:
            raise IndexError(f"index {index} of {n} ranges")
        return self._array.get(position)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over (address, length)."""
        # Of a copy: with a memoryview in a reference cycle CPython crashes, up to 3.12.
        return struct.iter_unpack("@NN", bytes(self._array.buffer()))

    def __eq__(self, other: object) -> bool:
        """Compare by value, in order."""
        if not isinstance(other, Ranges):
            return NotImplemented
        return len(self) == len(other) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        """Hash by value."""
        return hash(bytes(self))

    def __bytes__(self) -> bytes:
        """Return the ranges as native unsigned integers, address first."""
        return bytes(self._array.buffer())

    def __reduce__(self) -> tuple[type[Ranges], tuple[tuple[tuple[int, int], ...]]]:
        """Pickle as pairs."""
        return type(self), (tuple(self),)

    def __repr__(self) -> str:
        """Show the first ranges in hexadecimal."""
        shown = [
            f"({address:#x}, {length:#x})" for address, length in self[:_SHOWN_IN_REPR]
        ]
        if len(self) <= _SHOWN_IN_REPR:
            return f"Ranges([{', '.join(shown)}])"
        return (
            f"<Ranges [{', '.join(shown)}, ...]: {len(self)} ranges, "
            f"{self.total} bytes>"
        )


RangesLike: TypeAlias = Ranges | Iterable[tuple[int, int]]
"""A Ranges, or pairs (address, length) of ints, which are consumed once."""

_ITEM: Literal["Q", "L"] = "Q" if ADDRESS_MAX == 2**64 - 1 else "L"
_ITEM_SIZE = struct.calcsize(_ITEM)
_LITTLE_ENDIAN = struct.pack("@H", 1) == b"\1\0"


def _past_the_end(index: int, address: int, length: int) -> ValueError:
    return ValueError(
        f"ranges[{index}]: address {address:#x} + length {length:#x} "
        f"lies past the end of the address space, {ADDRESS_MAX + 1:#x}"
    )


def _first_invalid(pairs: tuple[object, ...]) -> Exception:
    """Return the exception for the first invalid pair."""
    for index, pair in enumerate(pairs):
        try:
            values: tuple[object, ...] = tuple(pair)  # type: ignore[arg-type]
        except TypeError:
            return TypeError(
                f"ranges[{index}] is {pair!r}: a pair (address, length) is needed"
            )
        if len(values) != 2:
            return ValueError(
                f"ranges[{index}] is {pair!r}: a pair (address, length) is needed, "
                f"not {len(values)} items"
            )
        for name, value in zip(("address", "length"), values, strict=True):
            try:
                number = operator.index(value)  # type: ignore[arg-type]
            except TypeError:
                return TypeError(
                    f"ranges[{index}]: {name} {value!r} is not an int "
                    f"but {type(value).__name__}"
                )
            if number < 0:
                return ValueError(f"ranges[{index}]: {name} {number} is negative")
            if number > ADDRESS_MAX:
                return ValueError(
                    f"ranges[{index}]: {name} {number:#x} "
                    f"lies past the end of the address space, {ADDRESS_MAX + 1:#x}"
                )
        address, length = map(operator.index, values)  # type: ignore[arg-type]
        if address + length > ADDRESS_MAX + 1:
            return _past_the_end(index, address, length)
    return ValueError("ranges: the pairs changed while they were read")
