"""The programs that are looked at in a guest, and one that looks."""

import os
import subprocess
import sys

MIB = 1 << 20
SIZE, CHUNK = 256 * MIB, MIB
HOT = 0.3
# Touches a page of each hot chunk after the other, and says how often it got around.
TARGET = f"""
import ctypes, mmap, random, sys, time
memory = mmap.mmap(-1, {SIZE}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
view = memoryview(memory)
step = mmap.PAGESIZE
view[::step] = bytes(len(view[::step]))
chunks = list(range(0, {SIZE}, {CHUNK}))
hot = random.Random(1).sample(chunks, round({HOT} * len(chunks)))
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), *hot, flush=True)
pages = bytes({CHUNK} // step)
while True:
    for chunk in hot:
        view[chunk : chunk + {CHUNK} : step] = pages
        if chunk == hot[0]:
            sys.stderr.write(".")
            sys.stderr.flush()
    time.sleep(0.01)
"""


# Touches all of its memory at the start, and once more when told to.
ONCE = f"""
import ctypes, mmap
memory = mmap.mmap(-1, {SIZE // 4}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
view, step = memoryview(memory), mmap.PAGESIZE
while True:
    view[::step] = bytes(len(view[::step]))
    print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
    input()
"""
# Forks when it is told to; then ends its child, and unmaps its memory.
FORK = f"""
import ctypes, mmap, os, signal, time
memory = mmap.mmap(-1, {SIZE // 8}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = bytes(len(memory))
cell = ctypes.c_char.from_buffer(memory)
print(ctypes.addressof(cell), flush=True)
del cell
input()
pid = os.fork()
if pid == 0:
    time.sleep(1000)
print(flush=True)
input()
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
memory.close()
print(flush=True)
input()
"""
EXEC = """
import os, sys
print("ready", flush=True)
input()
os.execv(sys.executable, [sys.executable, "-c", "input()"])
"""
# Fills memory, each page with bytes of its own; touches all when it is told to, and
# says how many faults it had then, minor and major.
_TOUCHES = """
import resource
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
view, step = memoryview(memory), mmap.PAGESIZE
while True:
    print(address if not before else " ".join(map(str, faults)), flush=True)
    input()
    before = resource.getrusage(resource.RUSAGE_SELF)
    bytes(view[::step])
    after = resource.getrusage(resource.RUSAGE_SELF)
    faults = after.ru_minflt - before.ru_minflt, after.ru_majflt - before.ru_majflt
"""
PAGES = (
    """
import ctypes, mmap, os, sys
before = None
memory = mmap.mmap(-1, int(sys.argv[1]), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for start in range(0, len(memory), 4096):
    memory[start : start + 1024] = os.urandom(1024)
"""
    + _TOUCHES
)
MAPS_FILE = (
    """
import ctypes, mmap, os, sys
before = None
with open(sys.argv[1], "w+b") as file:
    for _ in range(int(sys.argv[2]) >> 20):
        file.write(os.urandom(1 << 20))
    file.flush()
    os.fsync(file.fileno())
    memory = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE)
bytes(memoryview(memory)[::4096])
"""
    + _TOUCHES
)
TRACK = """
import sys, pmadvise
tracker = pmadvise.Process(int(sys.argv[1])).track("damon")
print("ready", flush=True)
sys.stdin.read()
"""


class Child:
    """A Python program that has said something; it is killed at the end."""

    def __init__(self, program: str, *arguments: object) -> None:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self.pid = self.popen.pid
        # Until then it may not have left the address space of this process: Linux 6.12
        # closes what Popen() waits for before execve(2) replaces it.
        self.hello = self.line()

    def __enter__(self) -> "Child":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill and reap it."""
        self.popen.kill()
        self.popen.communicate()

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def tell(self) -> None:
        """Send it a line."""
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def dots(self) -> int:
        """Return how many characters it has written to stderr since the last time."""
        assert self.popen.stderr is not None
        fd = self.popen.stderr.fileno()
        os.set_blocking(fd, False)
        try:
            return len(os.read(fd, 1 << 20))
        except BlockingIOError:
            return 0
