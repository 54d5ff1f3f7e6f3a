"""Memory that processes share: what PAGEOUT and reclaim move of it, for the guide.

Of 25 processes that map one file of 64 MiB, and of 200 MiB that a fork shares.
"""

import functools
import time
from collections.abc import Callable, Iterator

from guest_targets import MIB, Child
from proof import CGROUPS, require

import pmadvise

N, FILE, FORKED = 25, 64 * MIB, 200 * MIB
GROUP = CGROUPS / "shared"
JOIN = f"open('{GROUP}/cgroup.procs', 'w').write('0')\n"
MAPPERS = f"""
import mmap, os, time
{JOIN}
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
{JOIN}
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
    GROUP.mkdir()
    with Child(program) as child:
        pids = [int(word) for word in child.hello.split()]
        try:
            before = int((GROUP / "memory.current").read_text())
            begin = time.monotonic()
            if way == "reclaim":
                done = pmadvise.reclaim(GROUP, size)
                told = f"{done.ended}, told {done.reclaimed / MIB:.0f} MiB"
            else:
                handles = [pmadvise.Process(pid) for pid in pids]
                results = pmadvise.advise_each(
                    handles, pmadvise.Advice.PAGEOUT, select=page_out
                )
                reports = [report for _, report in results]
                advised = sum(
                    report.advised
                    for report in reports
                    if isinstance(report, pmadvise.Report)
                )
                told = f"advised {advised / MIB:.0f} MiB"
            seconds = time.monotonic() - begin
            fell = before - int((GROUP / "memory.current").read_text())
        finally:
            (GROUP / "cgroup.kill").write_text("1")
    for _ in range(100):
        try:
            GROUP.rmdir()
            break
        except OSError:
            time.sleep(0.05)
    require(fell >= 0 or way == "PAGEOUT", fell)
    return f"{told}, memory.current fell by {fell / MIB:.0f} MiB, {seconds:.2f} s"


def checks() -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the cases, by name."""
    for name, program, size in (("file", MAPPERS, FILE), ("fork", FORK, FORKED)):
        for way in ("PAGEOUT", "reclaim"):
            yield f"{name}_{way}", functools.partial(moved, program, size, way)
