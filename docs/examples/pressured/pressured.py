"""A daemon that pages idle processes out before the kernel has to choose.

It looks at the fill of some cgroups each 100 ms and listens to the kernel's pressure
stall information; over the high watermark it pages their idle processes out (policy.py
ranks them) until the low one is reached, and reads back in who wakes. JSON lines on
stdout, metrics for Prometheus, readiness and watchdog for systemd.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import math
import os
import select
import signal
import sys
import threading
import time

import policy
import telemetry
from cgroup import Cgroup, swapped_in, unprotected
from policy import Candidate
from prometheus_client import start_http_server
from telemetry import log, notify

from pmadvise import PAGE_SIZE, Advice, Pressure, Report, advise_each, support

TICK, LOOK = 0.1, 2.0  # seconds between looks: at the watermarks, at all processes
REST = 0.5  # after nothing could be done
SLICE = 1.0  # at most in one process, so that the watchdog hears of us
PAGES_BACK = 64  # swapped in by the host within a tick: somebody wakes


class Daemon:
    """The loop."""

    def __init__(self, options: argparse.Namespace, lock: int) -> None:
        self.options, self.lock = options, lock
        self.groups = [Cgroup(directory) for directory in options.cgroup]
        self.stopping = threading.Event()
        self.swapped_in, self.next_look, self.pause = swapped_in(), 0.0, TICK

    def run(self) -> None:
        """Look, and act, until the end is asked for."""
        poll = select.poll()
        try:
            pressure = Pressure()
            poll.register(pressure, select.POLLIN)
        except OSError as error:  # a kernel without PSI
            log("no_pressure", message=str(error))
        notify("READY=1")
        log("ready", cgroups=self.options.cgroup, pid=os.getpid())
        while not self.stopping.is_set():
            fired = bool(poll.poll(self.pause * 1000))
            self.pause = TICK
            telemetry.EVENTS.inc(fired)
            self.tick(fired, time.monotonic())
        notify("STOPPING=1")
        log("stopped")

    def tick(self, fired: bool, now: float) -> None:
        """Look at what is due, and act on it."""
        before, self.swapped_in = self.swapped_in, swapped_in()
        due, woken = now >= self.next_look, self.swapped_in - before > PAGES_BACK
        for group in self.groups:
            failed, group.failed = group.failed, ""
            try:
                self.attend(group, now, due=due, woken=woken, fired=fired)
            except OSError as error:  # the cgroup was removed, no descriptor is free
                group.failed = str(error)
            if group.failed not in ("", failed):
                log("error", cgroup=group.directory, message=group.failed)
        if due:
            self.next_look = now + LOOK
            os.utime(self.lock)
            notify("WATCHDOG=1")
            known = [one for group in self.groups for one in group.known.values()]
            telemetry.looked(len(known), sum(one.until > now for one in known))

    def attend(
        self, group: Cgroup, now: float, *, due: bool, woken: bool, fired: bool
    ) -> None:
        """Look at one cgroup, and act on it."""
        if due:
            group.refresh(now)
        used, limit = group.fill()
        high = limit * self.options.high / 100
        if used > high:
            used -= group.swap_cache()
        telemetry.RATIO.labels(group.directory).set(used / limit)
        room = high - used
        if due or woken:
            for one in group.known.values():
                room -= self.look(one, now, room) if due or one.swap else 0
        if (fired or room < 0) and now >= group.later:
            need = used - limit * self.options.low / 100
            self.relieve(group, now, need, "watermark" if room < 0 else "pressure")

    def look(self, one: Candidate, now: float, room: float) -> int:
        """Look at a process; if it wakes, read it back in as far as there is room."""
        if back := one.look(now):
            telemetry.REFAULTED.inc(back)
            report = self.advise(one, Advice.WILLNEED, room) if room > 0 else None
            read = report and report.advised
            log("woke", pid=one.process.pid, back=back, read=read, backoff=one.backoff)
        return back

    def relieve(self, group: Cgroup, now: float, need: float, trigger: str) -> None:
        """Page idle processes out: so many bytes, of all of them together."""
        most = self.options.budget << 20
        left = budget = min(int(need), most) if need > 0 else most
        for one in policy.rank(group.known.values(), now):
            if one.swap and self.look(one, now, 0):  # it woke since the last look
                continue
            room = min(left, unprotected(one.cgroup))
            report = self.advise(one, Advice.PAGEOUT, room) if room > 0 else None
            if report is None or report.before is None or report.after is None:
                continue
            freed = report.before.rss - report.after.rss
            telemetry.FREED.inc(max(freed, 0))
            one.paged_out(report.after.swap, now)
            if report.ended == "complete" and freed <= report.advised // 10:
                one.leave_alone(now)  # it has no more, or what it has is shared
            left -= report.advised
            late = time.monotonic() - now > SLICE
            if left < PAGE_SIZE or late or report.ended in ("budget", "cancelled"):
                break
        ended = "enough" if left < PAGE_SIZE else "short"
        telemetry.ACTS.labels(group.directory, trigger, ended).inc()
        if (advised := budget - left) > 0:
            log("relieved", trigger=trigger, advised=advised, ended=ended)
            self.pause = 0.0  # meanwhile the group may have grown past the watermark
        else:
            group.later = now + REST

    def advise(self, one: Candidate, advice: Advice, budget: float) -> Report | None:
        """Advise one process; None if it has gone or refuses."""
        [(process, report)] = advise_each(
            [one.process],
            advice,
            budget=int(budget),
            swap_floor=self.options.swap_floor << 20,
            stop=self.stopping.is_set,
            max_stall=self.options.max_stall / 1000,
            timeout=SLICE,
            measure=True,
        )
        if isinstance(report, Report):
            telemetry.ADVISED.labels(advice.name).inc(report.advised)
            telemetry.CALL.observe(report.longest_call)
            if report.ended == "exec":
                one.begin_anew()
            return report
        if not isinstance(report, ProcessLookupError):
            name = errno.errorcode.get(report.errno or 0, "?")
            telemetry.REFUSALS.labels(name).inc()
            one.until = math.inf
            log("refused", pid=process.pid, errno=name, message=str(report))
        return None


def main() -> None:
    """Run the daemon."""
    parser = argparse.ArgumentParser("pressured", description=__doc__)
    add = parser.add_argument
    add("--cgroup", action="append", required=True, metavar="DIRECTORY")
    add("--high", type=float, default=90, metavar="PERCENT", help="of the limit")
    add("--low", type=float, default=80, metavar="PERCENT")
    add("--budget", type=int, default=256, metavar="MIB", help="at once")
    add("--swap-floor", type=int, default=64, metavar="MIB", help="swap to leave free")
    add("--max-stall", type=float, default=10, metavar="MS", help="of a target")
    add("--listen", default="127.0.0.1:9779", metavar="ADDRESS:PORT", help="metrics")
    runtime = os.environ.get("RUNTIME_DIRECTORY", "/run/pressured")
    add("--lock", default=f"{runtime}/lock", metavar="FILE")
    options = parser.parse_args()
    allowed = support().other_processes
    if not allowed:
        sys.exit(f"pressured: {allowed.reason}; {allowed.remedy}")
    try:
        os.makedirs(os.path.dirname(options.lock) or ".", exist_ok=True)
        lock = os.open(options.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        daemon = Daemon(options, lock)
        address, _, port = options.listen.rpartition(":")
        start_http_server(int(port), address)
    except BlockingIOError:
        sys.exit(f"pressured: another one runs: it holds {options.lock}")
    except OSError as error:
        sys.exit(f"pressured: {error}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stopping.set())
    daemon.run()


if __name__ == "__main__":
    main()
