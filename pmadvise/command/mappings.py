"""The mappings of a process, one by one and in groups, and where their bytes are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pmadvise.maps import Vma
from pmadvise.process import Process
from pmadvise.ranges import Ranges

ANONYMOUS = "anonymous"
HEAP = "heap"
STACK = "stack"
_NAMES = {"[heap]": HEAP, "": ANONYMOUS}


@dataclass(frozen=True, slots=True)
class Mapping:
    """A VMA, and how much of it is where."""

    vma: Vma
    resident: int | None
    """Bytes; None where the pages may not be looked at."""
    swapped: int | None

    def to_dict(self) -> dict[str, object]:
        """Return it as `show --json` prints it."""
        return {
            "start": self.vma.start,
            "end": self.vma.end,
            "perms": self.vma.perms,
            "path": self.vma.path,
            "size": self.vma.length,
            "resident": self.resident,
            "swapped": self.swapped,
        }


@dataclass(slots=True)
class Group:
    """Mappings of one kind, or of one file."""

    name: str
    mappings: int = 0
    size: int = 0
    resident: int = 0
    swapped: int = 0

    def add(self, mapping: Mapping) -> None:
        """Add a mapping."""
        self.mappings += 1
        self.size += mapping.vma.length
        self.resident += mapping.resident or 0
        self.swapped += mapping.swapped or 0

    def join(self, other: Group) -> None:
        """Add all of another group."""
        self.mappings += other.mappings
        self.size += other.size
        self.resident += other.resident
        self.swapped += other.swapped


@dataclass(frozen=True)
class Layout:
    """The mappings of a process, and its pages."""

    mappings: list[Mapping]
    resident: Ranges
    swapped: Ranges
    refusal: OSError | None = None
    """Why the pages could not be looked at."""

    def groups(self) -> list[Group]:
        """Return the groups, those with most memory first."""
        found: dict[str, Group] = {}
        for mapping in self.mappings:
            name = group_of(mapping.vma)
            found.setdefault(name, Group(name)).add(mapping)
        return sorted(
            found.values(),
            key=lambda one: (-one.resident - one.swapped, -one.size, one.name),
        )


def read_layout(process: Process) -> Layout:
    """Look at the mappings and the pages of a process, one behind the other.

    Raises:
        PermissionError, ProcessLookupError: As Process.maps().
    """
    space = process.maps()
    vmas = list(space)
    array = space.select()._array
    refusal = None
    try:
        resident, swapped = process.resident(), process.swapped()
    except PermissionError as error:
        refusal = error
        nothing = Ranges()
        unknown = [Mapping(vma, None, None) for vma in vmas]
        return Layout(unknown, nothing, nothing, refusal)
    counted = zip(
        vmas,
        array.overlap(resident._array),
        array.overlap(swapped._array),
        strict=True,
    )
    return Layout([Mapping(*one) for one in counted], resident, swapped)


def group_of(vma: Vma) -> str:
    """Return the name of the group that a mapping belongs to."""
    if vma.path.startswith("[stack"):
        return STACK
    return _NAMES.get(vma.path, vma.path)


def cut(groups: Iterable[Group], most: int) -> list[Group]:
    """Return the first `most` groups, the last of them for all that are left."""
    found = list(groups)
    if len(found) <= most:
        return found
    rest = Group(f"{len(found) - most + 1} others")
    for one in found[most - 1 :]:
        rest.join(one)
    return [*found[: most - 1], rest]
