"""Selection of memory by the options of an advice."""

from __future__ import annotations

import functools
import operator
import shlex
from collections.abc import Callable
from dataclasses import dataclass

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

    def __str__(self) -> str:
        """Return the options as they were given."""
        kinds = {"--anon": self.anon, "--file": self.file, "--shared": self.shared}
        words = [option for option, is_given in kinds.items() if is_given]
        words += [f"--path {shlex.quote(path)}" for path in self.paths]
        words += [f"--range {a:x}-{a + length:x}" for a, length in self.ranges]
        if self.min_size:
            words.append(f"--min-size {self.min_size}")
        return " ".join(words)

    def matches(self, process: Process) -> bool:
        """Return whether a mapping is what the options ask for; errors as of()."""
        return len(self._mappings(process.maps())) > 0

    def of(self, process: Process, advice: Advice) -> Ranges | None:
        """Return the ranges to advise, None for the default selection of the advice.

        Raises:
            PermissionError, ProcessLookupError: As Process.maps().
        """
        if self.is_default:
            return None
        if self.ranges and self == Selection(ranges=self.ranges):
            return Ranges(self.ranges)
        return process.selection(advice, self._mappings(process.maps()))

    def idle_of(
        self, process: Process, advice: Advice, idle: Callable[[], Ranges]
    ) -> Ranges:
        """Return the ranges to advise of those that are idle.

        Of COLLAPSE the whole blocks without a page in memory that is not idle.

        Args:
            process: To select from.
            advice: To be given.
            idle: Returns the idle memory. It is asked after the mappings were read, so
                that an exec before that is seen.

        Raises:
            PermissionError, ProcessLookupError: As Process.maps(), and as idle().
        """
        if advice != Advice.COLLAPSE:
            ranges = self.of(process, advice)
            selected = process.selection(advice) if ranges is None else ranges
            return selected & idle()
        mappings = self._mappings(process.maps())
        known = idle()
        touched = process.resident(mappings) - known
        return process.selection(advice, mappings - touched)

    def _mappings(self, space: AddressSpace) -> Ranges:
        """Return the parts of mappings asked for."""
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
        if self.ranges:
            chosen &= Ranges(self.ranges)
        return chosen
