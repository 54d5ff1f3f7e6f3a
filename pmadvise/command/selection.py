"""The ranges of a target that the options of selection ask for."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

from pmadvise._advise.profiles import huge_page_size
from pmadvise.advice import Advice
from pmadvise.maps import AddressSpace
from pmadvise.process import Process
from pmadvise.ranges import Ranges


@dataclass(frozen=True)
class Selection:
    """The options: kinds of mappings add up, every other option narrows them."""

    anon: bool = False
    file: bool = False
    shared: bool = False
    paths: tuple[str, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    min_size: int = 0

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for, so that the advice selects."""
        return self == Selection()

    def of(self, process: Process, advice: Advice) -> Ranges:
        """Return the ranges to advise, of an address space looked at anew.

        Raises:
            PermissionError, ProcessLookupError: As Process.maps().
        """
        space = process.maps()
        chosen = self._mappings(space)
        if chosen is None:
            return Ranges(self.ranges)
        if self.ranges:
            chosen &= Ranges(self.ranges)
        return _moved_by(advice, process, space, chosen)

    def _mappings(self, space: AddressSpace) -> Ranges | None:
        """Return the mappings asked for; None where the ranges alone decide."""
        if self.ranges and self == Selection(ranges=self.ranges):
            return None
        select = functools.partial(space.select, min_length=self.min_size)
        kinds = []
        if self.anon:
            kinds.append(select(anonymous=True, private=True))
        if self.file:
            kinds.append(select(private=True, path="/*"))
        if self.shared:
            kinds.append(select(private=False))
        if not kinds:
            # a path may be of any kind; a size alone is about the default selection
            any_kind = bool(self.paths or self.ranges)
            kinds.append(select() if any_kind else select(anonymous=True, private=True))
        chosen = functools.reduce(operator.or_, kinds)
        if self.paths:
            named = [space.select(path=path) for path in self.paths]
            chosen &= functools.reduce(operator.or_, named)
        return chosen


def _moved_by(
    advice: Advice, process: Process, space: AddressSpace, chosen: Ranges
) -> Ranges:
    """Return the parts of mappings that an advice can do something to.

    The whole of them where the pages may not be looked at.
    """
    try:
        if advice in (Advice.COLD, Advice.PAGEOUT):
            return process.resident(chosen)
        if advice == Advice.WILLNEED:
            files = chosen - space.select(anonymous=True)
            return process.swapped(chosen) | (files - process.resident(files))
        size = huge_page_size()
        filled = process.resident(chosen)._array
        return Ranges._of_array(chosen.merged()._array.blocks(filled, size, size // 2))
    except PermissionError:
        return chosen
