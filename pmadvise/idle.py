"""Idle memory: which of it was not touched, and for how long."""

from __future__ import annotations

import _thread
import itertools
import time

from pmadvise._arguments import finite_seconds
from pmadvise._handle.mm import Mm
from pmadvise._idle.damon import Damon
from pmadvise._idle.look import Look
from pmadvise._idle.mappings import Mappings
from pmadvise._idle.page_idle import PageIdle
from pmadvise._native.base import original
from pmadvise._native.descriptor import Descriptor
from pmadvise._native.ranges import RangeArray
from pmadvise._origin import own
from pmadvise._reasons.answer import Answer
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from pmadvise._idle.look import Source

    SourceName = Literal["auto", "page_idle", "damon", "mappings"]
else:
    SourceName = str

SOURCES = {source.name: source for source in (PageIdle, Damon, Mappings)}
"""By name, the finest first."""
_MOST_LOOKS = 1000


class Tracker:
    """The memory of a process by the time since it was last seen touched.

    Process.track() makes one, and it watches from then on. Each look() notes what was
    touched since the last; idle() is what was not, for so long. It refers to one
    address space: after an exec, look() and idle() raise ProcessLookupError. A context
    manager; may be used from several threads. At most 1,000 looks are remembered: then
    those are joined that lie closest, for their age.

    What else clears the accessed bits of pages hides touches from "page_idle" and
    "mappings": reclaim with MGLRU when memory is scarce; COLD; another program at the
    same source. A page that is touched again before the next look is seen. A look by
    "mappings" holds the target's mmap lock for about 15 ms a GiB.
    """

    __slots__ = ("_claim", "_layers", "_lock", "_looked", "_mm", "_source", "_unknown")

    def __init__(self, mm: Mm, source: Source, claim: Descriptor) -> None:
        self._mm, self._source = mm, source
        self._claim: Descriptor | None = claim
        self._lock = original(_thread).RLock()
        self._layers: list[tuple[float, Ranges]] = []
        """Since when they are known not to be touched, and disjoint memory; the oldest
        first, one a look."""
        self._looked, self._unknown = 0.0, 0
        self.look()

    @property
    def source(self) -> str:
        """The name of its source: "page_idle", "damon" or "mappings"."""
        return self._source.name

    @property
    def grain(self) -> int:
        """Bytes that are told apart; 0: whole mappings."""
        return self._source.grain

    def look(self) -> None:
        """Note what was touched since the last look.

        After an exception, a KeyboardInterrupt too, nothing is idle: it begins anew.

        Raises:
            ValueError: This, or its Process, is closed.
            PermissionError: A right was lost.
            ProcessLookupError: The process has gone, or has exec'd.
            OSError: Somebody has taken the source away.
        """
        with self._lock:
            self._require_open()
            # A look that fails, or is interrupted, may have cleared what it had to say.
            known, self._layers = self._layers, []
            begin = time.monotonic()
            look = self._look_now()
            end = time.monotonic()
            kept = look.untouched & look.watched
            layers = [
                (since, _small(memory & kept) if memory else memory)
                for since, memory in known
            ]
            # what was seen touched, or is watched from now on
            layers.append((end, _small(look.watched - _union(layers))))
            _join_closest(layers, end)
            self._layers, self._looked = layers, begin
            self._unknown = look.resident - look.watched.total

    def idle(self, min_age: float) -> Ranges:
        """Return the memory that was watched, and not seen touched, for so long.

        Private memory that is in memory, and that no other process maps, merged: for
        cold() or pageout(). The time is that up to the latest look(), so look before.

        Args:
            min_age: Seconds, 0 or more.

        Raises:
            TypeError, ValueError: `min_age` is not a number of seconds.
            ValueError: This, or its Process, is closed.
            PermissionError: A right was lost.
            ProcessLookupError: The process has gone, or has exec'd.
        """
        finite_seconds("min_age", min_age)
        with self._lock:
            self._require_open()
            old = [
                (since, memory)
                for since, memory in self._layers
                if max(self._looked - since, 0) >= min_age
            ]
            with self._mm.identity.pin(), Pagemap(self._mm) as pagemap:
                idle = pagemap.exclusive(pagemap.resident(_union(old)))
                self._require_mm()
            return idle

    def ages(self) -> list[tuple[float, int]]:
        """Return the bytes that were not seen touched for at least so many seconds.

        One pair a look, as of the latest; the youngest first, so the bytes fall.
        """
        with self._lock:
            pairs, size = [], 0
            for since, memory in self._layers:
                size += memory.total
                pairs.append((max(self._looked - since, 0.0), size))
            return pairs[::-1]

    @property
    def unknown(self) -> int:
        """Bytes in memory at the latest look that are not watched: never idle.

        Shared with other processes, or of shared mappings; and what the source could
        not watch yet.
        """
        return self._unknown

    def close(self) -> None:
        """End the tracking, and put back what it has changed; may be called again."""
        with self._lock:
            claim, self._claim = self._claim, None
            if claim is not None:
                try:
                    self._source.close()
                finally:
                    claim.close()

    def __enter__(self) -> Tracker:
        """Return itself; raise ValueError if it is closed."""
        self._require_open()
        return self

    def __exit__(self, *_: object) -> None:
        """End the tracking."""
        self.close()

    def __repr__(self) -> str:
        """Show the source and the process."""
        state = " closed" if self._claim is None else ""
        return f"<Tracker of process {self._mm.identity.pid} by {self.source}{state}>"

    def _require_open(self) -> None:
        if self._claim is None:
            raise ValueError(
                f"the Tracker of process {self._mm.identity.pid} is closed"
            )

    def _require_mm(self) -> None:
        """Raise if the process no longer has the address space."""
        if self._mm.ended() in ("exec", "exited"):
            raise self._mm.identity.gone()

    def _look_now(self) -> Look:
        with self._mm.identity.pin():
            self._require_mm()
            look = self._source.look()
            self._require_mm()
        return look


_NOTHING = Ranges()


def _small(memory: Ranges) -> Ranges:
    """Return the same ranges, without room for more: most layers are empty."""
    n = len(memory)
    return Ranges._of_array(memory._array.copy(0, n)) if n else _NOTHING


def _union(layers: list[tuple[float, Ranges]]) -> Ranges:
    """Return the memory of all layers."""
    arrays = [memory._array for _, memory in layers if memory]
    return Ranges._of_array(RangeArray.joined(arrays))


def _join_closest(layers: list[tuple[float, Ranges]], now: float) -> None:
    """Join two neighbours if there are too many: those whose ages differ least.

    The memory of the older one is taken for as young as the other.
    """
    if len(layers) <= _MOST_LOOKS:
        return
    ratios = [
        (now - older[0]) / max(now - younger[0], 1e-9)
        for older, younger in itertools.pairwise(layers)
    ]
    at = ratios.index(min(ratios))
    (_, older_memory), (since, memory) = layers[at], layers[at + 1]
    layers[at : at + 2] = [(since, older_memory | memory)]


def track(mm: Mm, source: SourceName) -> Tracker:
    """Return a Tracker; see Process.track()."""
    if not isinstance(source, str):
        raise TypeError(f"source {source!r} is not a str")
    if source != "auto" and source not in SOURCES:
        known = ", ".join(map(repr, ("auto", *SOURCES)))
        raise ValueError(f"source {source!r} is none of {known}")
    names: list[str] = list(SOURCES) if source == "auto" else [source]
    claim = mm.claim()
    try:
        for name in names[:-1]:
            try:
                return _open(mm, name, claim)
            except own(OSError) as error:
                if isinstance(error, ProcessLookupError):
                    raise
        return _open(mm, names[-1], claim)
    except BaseException:
        claim.close()
        raise


def _open(mm: Mm, name: str, claim: Descriptor) -> Tracker:
    source = SOURCES[name](mm)
    try:
        return Tracker(mm, source, claim)
    except BaseException:
        source.close()
        raise


def sources() -> dict[str, Answer]:
    """Return whether each source can be had, the finest first."""
    return {name: source.answer() for name, source in SOURCES.items()}
