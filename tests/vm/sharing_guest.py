"""Memory that processes share: what PAGEOUT and reclaim move of it, for the guide.

Of 25 processes that map one file of 64 MiB, and of 200 MiB that a fork shares.
"""

import functools
import time
from collections.abc import Callable, Iterator

from guest_groups import Group
from guest_targets import MIB
from proof import require

import pmadvise

N, FILE, FORKED = 25, 64 * MIB, 200 * MIB
MAPPERS = f"""
import mmap, os, time
file = open("/tmp/shared", "w+b")
file.write(os.urandom({FILE}))
file.flush()
os.fsync(file.fileno())
memory = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
pids = [os.getpid()]
for _ in range({N - 1}):
    pid = os.fork()
    if not pid:
        break
    pids.append(pid)
bytes(memoryview(memory)[::4096])
if pid:
    time.sleep(3)
    print(*pids, flush=True)
time.sleep(1000)
"""
FORK = f"""
import mmap, os, time
memory = mmap.mmap(-1, {FORKED}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for start in range(0, {FORKED}, 4096):
    memory[start : start + 2048] = os.urandom(2048)
pid = os.fork()
if pid:
    print(os.getpid(), pid, flush=True)
time.sleep(1000)
"""


def page_out(process: pmadvise.Process) -> pmadvise.Ranges:
    """Select what is shared: the file, or the anonymous memory."""
    space = process.maps()
    return space.select(path="/tmp/shared") | space.select(
        anonymous=True, private=True, min_length=FORKED // 2
    )


def moved(program: str, size: int, way: str) -> str:
    """Ask for all of it, in one way; say what moved."""
    with Group("shared") as group:
        pids = [int(word) for word in group.start(program).hello.split()]
        before, begin = group.read("memory.current"), time.monotonic()
        if way == "reclaim":
            done = pmadvise.reclaim(group.path, size)
            told = f"{done.ended}, told {done.reclaimed / MIB:.0f} MiB"
        else:
            results = pmadvise.advise_each(
                [pmadvise.Process(pid) for pid in pids],
                pmadvise.Advice.PAGEOUT,
                select=page_out,
            )
            reports = (one for _, one in results if isinstance(one, pmadvise.Report))
            told = f"advised {sum(one.advised for one in reports) / MIB:.0f} MiB"
        seconds = time.monotonic() - begin
        fell = before - group.read("memory.current")
    require(fell >= 0 or way == "PAGEOUT", fell)
    return f"{told}, memory.current fell by {fell / MIB:.0f} MiB, {seconds:.2f} s"


def checks() -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the cases, by name."""
    for name, program, size in (("file", MAPPERS, FILE), ("fork", FORK, FORKED)):
        for way in ("PAGEOUT", "reclaim"):
            yield f"{name}_{way}", functools.partial(moved, program, size, way)
