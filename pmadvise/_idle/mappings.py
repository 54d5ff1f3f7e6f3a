"""Mappings of which nothing was touched: clear_refs, and Referenced of smaps.

Every kernel has both; proc_pid_clear_refs(5), proc_pid_smaps(5).
"""

from __future__ import annotations

from pmadvise._handle.mm import Mm
from pmadvise._handle.smaps import referenced
from pmadvise._idle.look import Look, private_memory
from pmadvise._reasons.answer import YES, Answer
from pmadvise.residency import Pagemap


class Mappings:
    """A source with whole mappings.

    A page that is touched between the reading of smaps and the clearing of the bits,
    some milliseconds, is not seen to be.

    Raises:
        PermissionError: A right is missing: for the process of another user,
            CAP_DAC_OVERRIDE.
        ProcessLookupError: The process no longer has that mm.
    """

    name = "mappings"
    grain = 0

    def __init__(self, mm: Mm) -> None:
        self._mm = mm

    @staticmethod
    def answer() -> Answer:
        """Return whether this host has it."""
        return YES

    def look(self) -> Look:
        """Return the mappings without a page that was touched, and clear the bits."""
        mm = self._mm
        with Pagemap(mm) as pagemap:
            private, resident = private_memory(mm, pagemap)
            watched = pagemap.exclusive(private)
        counted, untouched = referenced(mm)
        mm.identity.write("clear_refs", b"1")
        return Look(untouched, watched & counted, resident)

    def close(self) -> None:
        """Leave everything as it is: there is nothing to put back."""
