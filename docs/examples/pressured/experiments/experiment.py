"""What the command asks of an experiment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from figures import Column, Goal, Sample, Samples


@dataclass(frozen=True)
class Setting:
    """Where, and how large."""

    directory: str
    """On a disk: for the files that are read, and for swap."""
    divisor: int = 1
    """Of the sizes: 8 shows in seconds that all works, and measures nothing."""

    def mib(self, full: int) -> int:
        """Return a size, in MiB."""
        return full // self.divisor


class Experiment(ABC):
    """Cases that are run in turn."""

    name: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def cases(self) -> list[str]:
        """Return the cases, in the order of a round."""

    @abstractmethod
    def conditions(self) -> dict[str, str]:
        """Return what to know beside the numbers."""

    @abstractmethod
    def run(self, case: str) -> Sample:
        """Run one case once."""

    @abstractmethod
    def goals(self, samples: Samples) -> list[Goal]:
        """Return what the runs were required to show, as far as they were run."""
