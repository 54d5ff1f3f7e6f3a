"""The account of an act: who was paged out, how much, and why others were not."""

from __future__ import annotations

from collections import Counter
from typing import Any

from policy import Candidate

from pmadvise import Report

NAMED = 8  # processes, in a line of the log


class Account:
    """What was done in one act about one cgroup.

    Args:
        reasons: Why processes could not go, with their number.
        has_ranges: Whether idle ranges of busy processes may go.
    """

    def __init__(self, reasons: Counter[str], *, has_ranges: bool) -> None:
        self.reasons = reasons
        self.advised = self.freed = 0
        self._ranges = 0 if has_ranges else None
        self.relieved: set[int] = set()
        """The IDs of those whose cgroup gave memory as a whole."""
        self._acted: list[dict[str, Any]] = []
        self._wholes: list[dict[str, Any]] = []

    def add(self, one: Candidate, report: Report, out: int, *, is_busy: bool) -> None:
        """Enter what was paged out of a process, and what of it left memory."""
        if not report.advised:
            self.reasons["nothing"] += 1
            return
        self.advised, self.freed = self.advised + report.advised, self.freed + out
        line = {**one.named(), "advised": report.advised, "freed": out}
        if is_busy and self._ranges is not None:
            self._ranges += report.advised
            line["idle_ranges"] = report.advised
        self._acted.append(line)

    def add_whole(
        self, directory: str, members: list[Candidate], asked: int, out: int
    ) -> None:
        """Enter what was asked of a cgroup as a whole, and what of it left memory."""
        self.advised, self.freed = self.advised + asked, self.freed + out
        self.relieved |= {one.process.pid for one in members}
        line = {"cgroup": directory, "members": len(members)}
        self._wholes.append({**line, "advised": asked, "freed": out})

    def fields(self) -> dict[str, Any]:
        """Return it for the log, those that freed most first; empty without any."""
        if not (self._acted or self._wholes):
            return {}
        acted = sorted(self._acted, key=lambda line: -line["freed"])
        found: dict[str, Any] = {"advised": self.advised, "freed": self.freed}
        found |= {} if self._ranges is None else {"idle_ranges": self._ranges}
        found |= {"cgroups": self._wholes[:NAMED]} if self._wholes else {}
        more = {"more": len(acted) - NAMED} if len(acted) > NAMED else {}
        return {**found, "processes": acted[:NAMED], **more}
