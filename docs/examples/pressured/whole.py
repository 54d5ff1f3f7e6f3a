"""Cgroups as wholes: which may be relieved so, and the relief by memory.reclaim.

The kernel takes what is coldest of all in the cgroup, page cache and shared memory too;
no process is held up, and no right over processes is needed, only that to the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import policy
from cgroup import Cgroup
from members import OWN, listed
from options import Options
from policy import BUSY, REFUSED, Candidate

from pmadvise import Reclaimed, reclaim

RIGHTS = ("EPERM", "EACCES")  # of a process that may not be paged out


class Wholes:
    """Relieves whole cgroups.

    Args:
        options: Those of the daemon.
        is_stopping: Whether it is to end.
    """

    def __init__(self, options: Options, is_stopping: Callable[[], bool]) -> None:
        self.options = options
        self.may_page_out = True
        """Whether there is the right to page out processes at all."""
        self._is_stopping = is_stopping
        self._closed: dict[str, float] = {}
        """Cgroups from which none may be reclaimed, until then."""

    def refusing(self, group: Cgroup, now: float) -> list[Candidate]:
        """Return the idle processes that may not be paged out for want of rights."""
        if self.options.by != "auto":
            return []
        return [one for one in group.known.values() if _is_barred(one, now)]

    def members(self, group: Cgroup, directory: str, now: float) -> list[Candidate]:
        """Return the processes of a cgroup that may be relieved as a whole, or none.

        It may if all its processes are idle, or if none can be paged out for want of
        rights: then the kernel decides what of it is coldest.
        """
        if self.options.by != "auto" or self._closed.get(directory, -math.inf) > now:
            return []
        try:
            found = [group.known.get(pid) for pid in listed(directory)]
        except OSError as error:
            if error.errno in OWN:
                raise
            return []
        members = [one for one in found if one is not None and not one.gone]
        exclude = self.options.exclude
        if len(members) < len(found):  # who is new, or hidden, may be busy
            return []
        if any(policy.spares_cgroup(one, now, exclude) for one in members):
            return []
        is_idle = all(one.cpu < BUSY for one in members)
        return members if is_idle or self._is_barred(members, now) else []

    def _is_barred(self, members: list[Candidate], now: float) -> bool:
        """Return whether no process can be paged out, as a right is missing."""
        if not self.may_page_out:
            return True
        exclude = self.options.exclude
        return any(_is_barred(one, now) for one in members) and all(
            policy.why_not(one, now, exclude) for one in members
        )

    def reclaim(
        self, directory: str, size: float, floor: int, timeout: float, now: float
    ) -> Reclaimed | None:
        """Relieve a cgroup; return None if that is not possible there.

        Raises:
            OSError: No descriptor is free, or no memory: that is no fault of its.
        """
        try:
            return reclaim(
                directory,
                0 if self.options.dry_run else int(size),  # 0: is it allowed?
                swap_floor=floor,
                timeout=timeout,
                stop=self._is_stopping,
            )
        except OSError as error:
            if error.errno in OWN:
                raise
            self._closed[directory] = now + REFUSED
            return None


def _is_barred(one: Candidate, now: float) -> bool:
    return one.until > now and one.refused in RIGHTS and one.cpu < BUSY
