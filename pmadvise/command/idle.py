"""Idle memory of a process, of which `--idle` advises, and its words."""

from __future__ import annotations

from pmadvise.advice import Advice
from pmadvise.command.selection import Selection
from pmadvise.command.targets import TargetProcess
from pmadvise.command.text import long_size
from pmadvise.ranges import Ranges


class IdleMemory:
    """The memory of a process that is idle, as --idle asks for it.

    Args:
        process: Open, with its tracker.
        seconds: For which it is not touched.
    """

    def __init__(self, process: TargetProcess, seconds: float) -> None:
        assert process.tracker is not None
        self._process, self._tracker = process, process.tracker
        self.seconds = seconds
        self.size = 0
        """Bytes of all of it."""
        self.is_lost = False
        """Whether the process has exec'd: its mappings are others."""

    def select(self, selection: Selection, advice: Advice) -> Ranges:
        """Look at the process, and return the ranges to advise.

        Raises:
            PermissionError: A right was lost.
            ProcessLookupError: It has exited.
            OSError: Somebody has taken the source of the tracker away.
        """
        try:
            self._tracker.look()
            return selection.idle_of(self._process, advice, self._find)
        except ProcessLookupError:
            if not self._process.alive:
                raise
            self.is_lost = True  # the report tells of it
            return Ranges()

    def _find(self) -> Ranges:
        idle = self._tracker.idle(self.seconds)
        self.size = idle.total
        return idle

    @property
    def grain(self) -> str:
        """What was told apart, in words."""
        return grain_of(self._tracker.source, self._tracker.grain)

    def to_dict(self) -> dict[str, object]:
        """Return it as --json prints it."""
        return {
            "seconds": self.seconds,
            "source": self._tracker.source,
            "grain": self._tracker.grain,
            "bytes": self.size,
            "unknown": self._tracker.unknown,
        }

    @property
    def unknown(self) -> int:
        """Bytes in memory that the tracker can't tell of."""
        return self._tracker.unknown


def grain_of(source: str, grain: int) -> str:
    """Return the source of a tracker and what it tells apart, in words."""
    if not grain:
        return f"{source}: a touched page counts as its whole mapping"
    noun = "pages" if source == "page_idle" else "regions"
    return f"{source}: {noun} of {long_size(grain)}"
