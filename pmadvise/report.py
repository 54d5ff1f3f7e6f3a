"""The result of an advise()."""

from __future__ import annotations

import errno
from dataclasses import asdict, dataclass

from pmadvise.advice import Advice, advice_name
from pmadvise.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Ended = Literal[
        "complete", "budget", "timeout", "cancelled", "exec", "exited", "refused"
    ]
else:
    Ended = str


@dataclass(frozen=True, slots=True)
class Skip:
    """A range that could not be advised."""

    address: int
    length: int
    """Bytes."""
    errno: int
    """The kernel's; ENOMEM where nothing is mapped, EIO where the call returned 0 bytes
    and no errno."""
    reason: str

    def __repr__(self) -> str:
        """Show address and length in hexadecimal, and the errno by its name."""
        name = errno.errorcode.get(self.errno, self.errno)
        return f"Skip({self.address:#x}, {self.length:#x}, {name}: {self.reason})"


@dataclass(frozen=True, slots=True)
class Remaining:
    """The memory that PAGEOUT was asked for and that is in memory all the same."""

    resident: int
    """Bytes of the ranges that are still in memory."""
    shared: int
    """Bytes of these that other processes map too: the kernel passes over them."""


@dataclass(frozen=True, slots=True)
class Report:
    """The account of an advise(): requested == advised + skipped + not tried."""

    advice: Advice | int
    requested: int
    """Bytes asked for."""
    advised: int
    """Bytes that the kernel took. Not bytes reclaimed: see `before`, `after` and
    `remaining`."""
    skipped: tuple[Skip, ...]
    """The ranges that could not be advised, in the order asked."""
    calls: int
    """System calls process_madvise(2) that had ranges."""
    elapsed: float
    """Seconds, selection and measuring included."""
    longest_call: float
    """Seconds of the longest system call, which holds the target's mmap lock."""
    ended: Ended
    """"complete", or why the rest was not tried: "budget", "timeout", "cancelled" (also
    by the exception that carries this report), "exec", "exited", "refused" (permission
    was lost)."""
    before: Status | None = None
    """The target's memory before, with measure=True."""
    after: Status | None = None
    """And after; None too where it has exec'd or exited."""
    remaining: Remaining | None = None
    """With measure=True after PAGEOUT: the memory of the ranges that did not move; None
    too where that can't be read, or when the timeout was reached."""

    @property
    def not_tried(self) -> int:
        """Bytes that were neither advised nor skipped."""
        return self.requested - self.advised - sum(s.length for s in self.skipped)

    def to_dict(self) -> dict[str, object]:
        """Return all of it as json.dumps() takes it; advice by its name."""
        return {
            **asdict(self),
            "advice": advice_name(self.advice),
            "not_tried": self.not_tried,
        }
