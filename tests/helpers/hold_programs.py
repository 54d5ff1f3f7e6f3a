"""Programs that hold, are held, trace or get in the way, for ``python -c``."""

from __future__ import annotations

COUNTERS = 4
"""How many counters the memory has whose file descriptor is a program's argument 1."""

THREADS = """
import _thread, mmap, sys, time
counters = memoryview(mmap.mmap(int(sys.argv[1]), 32)).cast("Q")
def count(i):
    while True:
        counters[i] += 1
        time.sleep(0.0002)
for i in range(2):
    _thread.start_new_thread(count, (i,))
print("ready", flush=True)
count(2)
"""
"""Three threads, each counting its steps."""

CALLER = """
import os, select, sys, time
from pmadvise import Process
pid, method, then = int(sys.argv[2]), sys.argv[3], sys.argv[4]
with Process(pid).hold(method, 20):
    if then == "fork" and os.fork() == 0:
        time.sleep(600)
    print("held", flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        pass  # Python sees a signal that comes right before a wait when that is over
    sys.stdin.read()
"""
"""Holds a process until its standard input ends."""

DAEMON = """
import os, sys
from pmadvise import Process
with Process(int(sys.argv[2])).hold(sys.argv[3], 20) as held:
    os.closerange(3, 256)
    files = [os.open("/dev/null", os.O_RDWR) for _ in range(64)]
for fd in files:
    os.fstat(fd)
print(held.broken, flush=True)
os._exit(0)
"""
"""Closes every descriptor while it holds a process, and opens others."""

TRACER = """
import ctypes, os, sys
pid = int(sys.argv[2])
tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
tid = pid if sys.argv[3] == "leader" else tids[-1]
ctypes.CDLL(None).ptrace(0x4206, tid, None, None)  # PTRACE_SEIZE
print("traced", flush=True)
sys.stdin.read()
"""
"""Traces one thread of a process."""

VFORK = """
import os, sys
print("ready", flush=True)
opens = [(os.POSIX_SPAWN_OPEN, 0, sys.argv[2], os.O_RDONLY, 0)]
os.posix_spawn("/bin/true", ["true"], {}, file_actions=opens)
print("spawned", flush=True)
sys.stdin.read()
"""
"""Waits, in state D, for its vfork child to open a FIFO."""

RAIN = """
import fcntl, os, signal, sys, threading
r, w = os.pipe2(os.O_NONBLOCK)
fcntl.fcntl(w, fcntl.F_SETPIPE_SZ, 1 << 20)
signal.set_wakeup_fd(w)
signal.signal(signal.SIGRTMIN, lambda *_: None)
signal.signal(signal.SIGTERM, lambda *_: None)
for _ in range(2):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
os.set_blocking(r, True)
print("ready", flush=True)
handled = 0
while signal.SIGTERM not in (octets := os.read(r, 1 << 16)):
    handled += octets.count(int(signal.SIGRTMIN))
print(handled + octets.count(int(signal.SIGRTMIN)), flush=True)
"""
"""Counts the real-time signals that it gets, until SIGTERM."""

PARENT = """
import os, subprocess, sys
code = "import threading; [threading.Thread(target=threading.Event().wait).start() "
code += "for _ in range(3)]; print('up', flush=True)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
print(child.wait(), flush=True)
"""
"""Starts a process of four threads, and prints how that ended."""

CLONES = """
import threading
def relay():
    threading.Thread(target=relay, daemon=True).start()
print("ready", flush=True)
for _ in range(4):
    relay()
threading.Event().wait()
"""
"""Threads that are born and die without end."""

EXECS = """
import os, sys, threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
if len(sys.argv) == 2:
    print("ready", flush=True)
run = lambda: os.execv(sys.executable, [sys.executable, "-ISc", code, "", ""])
code = open("/proc/self/cmdline").read().split("\\0")
code = code[code.index("-ISc") + 1]
threading.Thread(target=run).start()
threading.Event().wait()
"""
"""Calls execve(2) without end, each time from another thread than the leader."""

DEAD_LEADER = """
import _thread, ctypes, mmap, sys, time
counters = memoryview(mmap.mmap(int(sys.argv[1]), 32)).cast("Q")
def count(i):
    while True:
        counters[i] += 1
        time.sleep(0.0002)
for i in range(3):
    _thread.start_new_thread(count, (i,))
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
"""Three threads whose leader has exited."""

CROWD = """
import sys, threading
threading.stack_size(1 << 16)
event = threading.Event()
for _ in range(int(sys.argv[2]) - 1):
    threading.Thread(target=event.wait, daemon=True).start()
print("ready", flush=True)
event.wait()
"""
"""Many threads that wait."""

ADVISER = """
import os, signal, sys, threading, time
from pmadvise import Advice, Process
_, pid, method, end, text = sys.argv
process, seconds = Process(int(pid)), float(text)

def work():
    while True:
        try:
            with process.hold(method, 10, True):
                process.cold(process.maps().select(anonymous=True, private=True))
        except TimeoutError:
            pass
        process.pageout(measure=True)

def strike(*_):
    if end == "_exit":
        os._exit(3)
    if end == "abort":
        os.abort()
    if end == "exec":
        os.execv("/bin/true", ["true"])
    if end == "sys_exit":
        sys.exit(3)
    raise ZeroDivisionError

if end == "abort":
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGALRM, strike)
with process.hold(method, 10, True):  # loads what is loaded at first use
    pass
print("ready", flush=True)
if end == "shutdown":
    kept = process.hold(method, 10, True)
    kept.__enter__()
elif end == "daemon":
    threading.Thread(target=work, daemon=True).start()
    time.sleep(seconds)
elif end == "thread":
    def die():
        with process.hold(method, 10, True):
            raise SystemExit
    one = threading.Thread(target=die)
    one.start()
    one.join()
else:
    if end in ("_exit", "abort", "exec", "sys_exit", "exception"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
    work()
"""
"""Holds and advises a process until its end. Arguments: PID, method, the end, when."""
