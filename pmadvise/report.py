"""Report: the account of an advise(), with the skipped and the remaining memory."""

from __future__ import annotations

from pmadvise._reasons import errno_name
from pmadvise._record import as_dict, record
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


@record
class Skip:
    """A range that could not be advised."""

    address: int
    length: int
    """Bytes."""
    errno: int
    """The kernel's; ENOMEM if nothing is mapped, EIO if the call returned 0 bytes
    and no errno."""
    reason: str

    def __repr__(self) -> str:
        """Show address and length in hexadecimal, and the errno by its name."""
        name = errno_name(self.errno)
        return f"Skip({self.address:#x}, {self.length:#x}, {name}: {self.reason})"


@record
class Remaining:
    """Memory that is still resident after PAGEOUT."""

    resident: int
    """Bytes of the ranges that are still in memory."""
    shared: int
    """Bytes of these that other processes map as well: the kernel skips them."""


@record
class Report:
    """The account of an advise(): requested == advised + skipped + not tried."""

    advice: Advice | int
    requested: int
    """Bytes requested."""
    advised: int
    """Bytes that the kernel advised. Not bytes reclaimed: see `before`, `after` and
    `remaining`."""
    skipped: tuple[Skip, ...]
    """The ranges that could not be advised, in the order requested."""
    calls: int
    """System calls of process_madvise(2) with ranges."""
    elapsed: float
    """Seconds, selection and measuring included."""
    longest_call: float
    """Seconds of the longest system call, which holds the target's mmap lock."""
    ended: Ended
    """"complete", or the reason why the rest was not tried: "budget", "timeout",
    "cancelled" (or an exception, which carries this report), "exec", "exited",
    "refused" (permission was lost)."""
    before: Status | None = None
    """The target's memory before, with measure=True."""
    after: Status | None = None
    """The same afterwards; None if it has exec'd or exited."""
    remaining: Remaining | None = None
    """The memory that did not move, with measure=True after PAGEOUT; None if it can't
    be read, or if the timeout was reached."""
    touched: int = 0
    """Bytes of the pages that willneed(touch=True) has read, and so mapped."""

    @property
    def not_tried(self) -> int:
        """Bytes that were neither advised nor skipped."""
        return self.requested - self.advised - sum(s.length for s in self.skipped)

    def to_dict(self) -> dict[str, object]:
        """Return all fields as json.dumps() takes them; advice by its name."""
        return {
            **as_dict(self),
            "advice": advice_name(self.advice),
            "not_tried": self.not_tried,
        }
