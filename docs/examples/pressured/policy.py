"""Which processes are paged out, and in which order: replace it by what you know.

A system that knows which of its processes matter (the window in front, the request
that waits, the job that sleeps) does better than this, which knows CPU time alone.
"""

from __future__ import annotations

import fnmatch
import functools
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pmadvise import Process, Status

LATELY, SHORTEST = 2.0, 0.5  # seconds that CPU time counts; between two looks at it
BUSY = 0.02  # of a CPU: not to be paged out
SMALL = 1 << 20  # bytes that are not worth a look
WOKEN = 1 << 20  # bytes that came back from swap: it wakes
BACKOFF, BACKOFF_MAX = 30.0, 600.0  # seconds
REFUSED = 600.0  # seconds until one that refused is asked again
IMPORTANT = -500  # oom_score_adj
REALTIME = (os.SCHED_FIFO, os.SCHED_RR, 6)  # 6: SCHED_DEADLINE
ASK_AGAIN = 60.0  # seconds that a process's own settings are believed of who stays


@dataclass(slots=True)
class Candidate:
    """A process, and what was seen of it."""

    process: Process
    cgroup: str
    status: Status
    """The latest."""
    looked: float
    """When, by time.monotonic()."""
    cpu: float = math.inf
    """Its share of a CPU lately; not known yet of a new one."""
    swap: int = 0
    """Its bytes in swap right after it was paged out; 0: it was not, or it woke."""
    advised: float = -math.inf
    """When it was last paged out."""
    backoff: float = BACKOFF
    until: float = -math.inf
    """It is left alone until then."""
    awake: float = -math.inf
    """It woke, or gave nothing: until then its cgroup is left alone too."""
    refused: str = ""
    """The errno of its latest refusal."""
    may_touch: bool = True
    """Whether its pages may be mapped when it is read back in, as far as is known."""
    is_partly_out: bool = False
    """Whether it was busy then, and only what was idle of it was paged out."""
    is_fruitless: bool = False
    """Whether the last advice freed next to nothing."""
    gone: bool = False
    important: str = ""
    """Which of its settings spares it: "realtime", "oom_score_adj" or none."""
    asked: float = -math.inf
    """When that was read."""

    def look(self, now: float) -> int:
        """Look at it; if it wakes, return the bytes that came back from swap.

        Then it is left alone for a while. Once it has gone the bytes are 0: what it had
        in swap has gone with it.
        """
        try:
            status = self.process.status()
        except ProcessLookupError:
            self.gone = True
            return 0
        if status.state in "ZX":
            return 0
        if (seconds := now - self.looked) >= SHORTEST:
            share = (status.cpu - self.status.cpu) / seconds
            weight = math.exp(-seconds / LATELY) if math.isfinite(self.cpu) else 0.0
            self.cpu = weight * self.cpu + (1 - weight) * share if weight else share
            self.looked = now
            self.status = status
        if (back := self.swap - status.swap) < WOKEN:
            return 0
        self.swap = 0
        self.leave_alone(now)
        return back

    def named(self) -> dict[str, object]:
        """Return who it is, for the log."""
        pid, name = self.process.pid, self.status.name
        return {"pid": pid, "name": name, "cgroup": self.cgroup}

    def paged_out(self, swap: int, now: float) -> None:
        """Note that it let itself be paged out: so many bytes are in swap now."""
        self.swapped_out(swap, now)
        self.refused = ""

    def swapped_out(self, swap: int, now: float) -> None:
        """Note that so many bytes of it are in swap now, whether or not it refuses."""
        if now - self.advised > 4 * self.backoff:  # it slept long since the last time
            self.backoff = BACKOFF
        self.swap, self.advised, self.is_partly_out = swap, now, False

    def begin_anew(self) -> None:
        """Note that it runs another program now: what was seen of it is no use."""
        self.cpu, self.swap, self.asked = math.inf, 0, -math.inf
        self.process.maps()

    def refused_by(self, name: str, now: float) -> bool:
        """Note that it refused; return whether that is new."""
        is_new, self.refused = name != self.refused, name
        self.until = now + REFUSED
        return is_new

    def leave_alone(self, now: float) -> None:
        """Do not page it out for a while: longer each time."""
        self.awake = now + self.backoff
        self.until = max(self.until, self.awake)
        self.backoff = min(2 * self.backoff, BACKOFF_MAX)

    def why_important(self, now: float, at_most: float = ASK_AGAIN) -> str:
        """Return which of its settings spares it, as it was so many seconds ago."""
        if now - self.asked >= at_most:
            self.important, self.asked = _important(self.process), now
        return self.important


def _important(process: Process) -> str:
    """Return "realtime", "oom_score_adj", "gone", "hidden" or ""."""
    directory = f"/proc/{process.pid}"
    try:
        score = int(Path(directory, "oom_score_adj").read_text("ascii"))
        threads = os.listdir(f"{directory}/task")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    except PermissionError:  # unknown is not no
        return "hidden"
    found = "oom_score_adj" if score <= IMPORTANT else ""
    for thread in threads if not found else ():
        try:
            if os.sched_getscheduler(int(thread)) & 0xFF in REALTIME:
                found = "realtime"
                break
        except ProcessLookupError:  # this thread has ended
            continue
    return found if process.alive else "gone"  # else the ID may be another's by now


@functools.cache
def ancestors() -> frozenset[int]:
    """Return the IDs of this process and of those that it descends from."""
    found, pid = set(), os.getpid()
    while pid and pid not in found:
        found.add(pid)
        try:
            with Process(pid) as process:
                pid = process.status().parent
        except OSError:  # hidden, or of another pid namespace
            break
    return frozenset(found)


def choose(
    candidates: Iterable[Candidate], now: float, exclude: Sequence[str] = ()
) -> tuple[list[Candidate], Counter[str]]:
    """Return the processes that may be paged out, the first to go first.

    Args:
        candidates: All.
        now: By time.monotonic().
        exclude: Patterns of names, and directories of cgroups.

    Returns:
        These; and why the others may not, with their number.
    """
    chosen, reasons = [], Counter[str]()
    for one in candidates:
        reason = why_not(one, now, exclude) or one.why_important(now)
        if reason:
            reasons[reason] += 1
        else:
            chosen.append(one)
    chosen.sort(key=lambda one: (round(one.cpu, 3), -one.status.anonymous))
    return chosen, reasons


def is_busy(one: Candidate, now: float, exclude: Sequence[str] = ()) -> bool:
    """Return whether a process stays for no other reason than that it is busy."""
    return why_not(one, now, exclude) == "busy" and not one.why_important(now)


def why_not(one: Candidate, now: float, exclude: Sequence[str]) -> str:
    """Return why a process may not be paged out now, or ""."""
    if reason := _why_never(one, exclude):
        return reason
    if one.until > now:
        return "refused" if one.refused else "backoff"
    if one.status.anonymous < SMALL:
        return "small"
    if math.isinf(one.cpu):
        return "new"
    return "busy" if one.cpu >= BUSY else ""


def spares_cgroup(one: Candidate, now: float, exclude: Sequence[str]) -> bool:
    """Return whether a process forbids that its cgroup is relieved as a whole.

    Neither its size does, nor that it is busy, nor that it refuses to be paged out.
    """
    is_spared = bool(_why_never(one, exclude) or one.why_important(now))
    return is_spared or one.awake > now


def _why_never(one: Candidate, exclude: Sequence[str]) -> str:
    if one.process.pid in ancestors():
        return "own"
    if any(_matches(one, pattern) for pattern in exclude):
        return "excluded"
    return ""


def _matches(one: Candidate, pattern: str) -> bool:
    if "/" in pattern:
        return f"{one.cgroup}/".startswith(pattern.rstrip("/") + "/")
    return fnmatch.fnmatchcase(one.status.name, pattern)
