"""Parking: a cgroup or a process tree that stands still, with its memory in swap.

`park.py park` freezes, pages out, and ends: what is parked stays so. `park.py unpark`
reads the memory back in while all is frozen, maps it, and lets it run on. It needs
pmadvise and standstill.py, which lies beside it. docs/park.md tells what comes of
sockets, timers and watchdogs.
"""

from __future__ import annotations

import argparse
import functools
import math
import operator
import os
import re
import resource
import sys
import time

from standstill import Cgroup, Guard, Tree, left

from pmadvise import Advice, Process, Ranges, Report, advise_each, swap


def mib(size: int) -> str:
    """Return bytes for people."""
    return f"{size / (1 << 20):.1f} MiB"


Outcome = tuple[Process, Report | OSError]


def advise(
    handles: list[Process], advice: Advice, deadline: float, **options: object
) -> list[Outcome]:
    """Advise processes; return what came of it for each that lives."""
    outcomes = advise_each(
        handles,
        advice,
        timeout=left(deadline),
        measure=True,
        **options,  # type: ignore[arg-type]
    )
    return [pair for pair in outcomes if not isinstance(pair[1], ProcessLookupError)]


def reports(outcomes: list[Outcome]) -> list[Report]:
    """Return the accounts."""
    return [outcome for _, outcome in outcomes if isinstance(outcome, Report)]


def refused(outcomes: list[Outcome]) -> list[tuple[Process, OSError]]:
    """Return who refused, and why."""
    return [(one, error) for one, error in outcomes if isinstance(error, OSError)]


def tell(outcomes: list[Outcome]) -> None:
    """Print why not all was done."""
    early = {report.ended for report in reports(outcomes)} - {"complete", "exited"}
    for ended in sorted(early):
        why = {"budget": "the floor of swap is reached", "timeout": "--timeout is over"}
        print(f"not all: {why.get(ended, ended)}")
    for _, error in refused(outcomes):
        print(f"not all: {error}")


def park(target: Cgroup | Tree, swap_floor: int, deadline: float) -> None:
    """Let a target stand still, and page it out.

    Raises:
        OSError: It was not parked, and goes on as it did.
    """
    check(target)
    if target.is_still():
        print("it stands still already")
    with Guard() as guard:
        handles = target.stop(guard, deadline)
        taken = target.reclaim(swap_floor, deadline)
        # what the kernel has left, and all without memory.reclaim
        outcomes = advise(handles, Advice.PAGEOUT, deadline, swap_floor=swap_floor)
        if taken is None or not refused(outcomes):
            if not reports(outcomes) and outcomes:
                raise refused(outcomes)[0][1]
            tell(outcomes)
        pairs = [(r.before, r.after) for r in reports(outcomes)]
        freed = sum(a.rss - b.rss for a, b in pairs if a and b) + (taken or 0)
        in_swap = sum(one.status().swap for one, _ in outcomes if one.alive)
        guard.keep()
    print(f"freed {mib(max(freed, 0))}; {mib(in_swap)} are in swap")
    print(f"parked: {' '.join(str(one.pid) for one, _ in outcomes)}")


def check(target: Cgroup | Tree) -> None:
    """Raise OSError if a target is not to be parked, before anything is done."""
    try:
        has_swap = swap().total > 0
    except OSError:  # /proc hides it
        has_swap = True
    if not has_swap:
        raise OSError("there is no swap: no memory could leave")
    members = target.members()
    for one in members:
        one.close()
    pids = [one.pid for one in members]
    if not pids:
        raise OSError("it has no process")
    if os.getpid() in pids:
        raise OSError("it has this program itself in it: run it from elsewhere")


def unpark(target: Cgroup | Tree, deadline: float, *, is_thawed: bool = True) -> None:
    """Read the memory of a target back in, map it, and let it run on."""
    if not target.is_still():
        print("it runs already")
        return
    with Guard() as guard:
        if is_thawed:
            target.hand_over(guard)  # from now on it goes on, whatever happens
        try:
            read_back(target.members(), deadline)
        except OSError as error:
            print(f"not read back: {error}")
    print("runs" if is_thawed else "stands still: let it run on where you froze it")


def read_back(handles: list[Process], deadline: float) -> None:
    """Read memory back in, and map it where that is allowed."""
    outcomes = advise(handles, Advice.WILLNEED, deadline, touch=True, select=absent)
    advise(handles, Advice.WILLNEED, deadline, select=shared)
    if unmapped := dict(refused(outcomes)):
        again = advise([*unmapped], Advice.WILLNEED, deadline)
        for one, outcome in again:
            if isinstance(outcome, Report):
                print(f"not mapped, it has to fault each page in: {unmapped[one]}")
        outcomes = [pair for pair in outcomes if pair[0] not in unmapped] + again
    tell(outcomes)
    read = sum(report.advised for report in reports(outcomes))
    mapped = sum(report.touched for report in reports(outcomes))
    print(f"read back {mib(read)}, mapped {mib(mapped)}")


def absent(process: Process) -> Ranges:
    """Return what is in swap, and of programs and libraries what is not in memory.

    PAGEOUT as it is used here leaves these alone; memory.reclaim takes them too.
    """
    space = process.maps()
    code = {(vma.device, vma.inode) for vma in space if vma.executable and vma.inode}
    files = Ranges(
        (vma.start, vma.length)
        for vma in space
        if vma.private and (vma.device, vma.inode) in code
    )
    return process.swapped() | (files - process.resident(files))


def shared(process: Process) -> Ranges:
    """Return the shared memory, of which WILLNEED reads what is in swap, and no more.

    Which pages are in swap does not show, so it is not mapped.
    """
    space = process.maps()
    paths = ("/dev/zero (deleted)", "/memfd:*", "/SYSV*", "/dev/shm/*")
    found = [space.select(private=False, path=path) for path in paths]
    return functools.reduce(operator.or_, found)


def size(text: str) -> int:
    """Return bytes: of 65536, 64K, 512M, 2G."""
    match = re.fullmatch(r"([0-9]+)([KMG]?)", text.upper())
    if not match:
        raise argparse.ArgumentTypeError("not a size, such as 512M")
    return int(match[1]) << 10 * " KMG".index(match[2] or " ")


def main() -> int:
    """Park, or unpark; return the exit status."""
    parser = argparse.ArgumentParser(
        description="Let a cgroup or a process tree stand still, in swap."
    )
    parser.add_argument("action", choices=("park", "unpark"))
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--cgroup", metavar="PATH", help="frozen with those below it")
    target.add_argument("--tree", metavar="PID", type=int, help="stopped by SIGSTOP")
    parser.add_argument(
        "--swap-floor",
        metavar="SIZE",
        type=size,
        default=64 << 20,
        help="swap to leave free (64M)",
    )
    parser.add_argument(
        "--no-thaw",
        action="store_true",
        help="unpark: read back alone, and leave the thaw to the engine that froze it",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=math.inf,
        help="to stop paging out or reading back after so long (none)",
    )
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two for each process
    deadline = time.monotonic() + given.timeout
    try:
        found = Tree(given.tree) if given.cgroup is None else Cgroup(given.cgroup)
        if given.action == "park":
            park(found, given.swap_floor, deadline)
        else:
            unpark(found, deadline, is_thawed=not given.no_thaw)
    except KeyboardInterrupt:
        print("park.py: interrupted: what is not parked runs on", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"park.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
