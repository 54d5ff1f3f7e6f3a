"""Callers that hold and advise a target until something ends them."""

from __future__ import annotations

CALLER = """
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
"""Arguments: PID, method, the end, the seconds until it comes."""

ENDS = {
    "SIGKILL": (-9,),
    "SIGTERM": (-15,),
    "SIGINT": (-2, 1),
    "_exit": (3,),
    "abort": (-6,),
    "exec": (0,),
    "sys_exit": (3,),
    "exception": (1,),
    "shutdown": (0,),
    "daemon": (0,),
    "thread": (0,),
}
"""The ends, and the exit statuses that they may have."""
